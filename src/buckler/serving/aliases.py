"""The aliases of the model registry; apart from `buckler.serving.registry`, which takes seconds to load MLflow."""

CHAMPION = "champion"  # the live model
CHALLENGER = "challenger"  # the candidate: the latest published version
