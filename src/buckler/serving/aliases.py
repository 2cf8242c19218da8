"""The aliases of the model registry."""

CHAMPION = "champion"  # the live model
CHALLENGER = "challenger"  # the candidate: the latest published version
