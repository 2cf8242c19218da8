"""Stage ``publish``: records the execution in MLflow and registers its release as the challenger.

Reads   models/release/, reports/ (JSON, outcomes.csv, plots, training curves), params.yaml, the public key
Writes  reports/publish.json; in MLflow a run with one nested run an attack and radius, and a model version

The only stage that uses MLflow. A repeated run finds the published version and changes nothing.
"""

from pathlib import Path

from buckler import params
from buckler.release import bundle, publish
from buckler.release.settings import PublishParams
from buckler.serving import registry
from buckler.state import documents
from buckler.trust import keys
from buckler.trust.opened_files import opened
from buckler.trust.verdict import open_release
from pipelines.stage import stage

RELEASE = Path("models/release")
REPORTS = Path("reports")


def run(names: PublishParams) -> None:
    """Publish the release in models/release."""
    # A valid signature is enough: a model that failed its gate is registered too, and promotion rejects it.
    with opened(RELEASE) as release:
        verdict = open_release(release, keys.load_public_keys())
        published = publish.publish(
            release,
            REPORTS,
            names=names,
            parameters=params.read(),
            source=bundle.source_of(Path.cwd()),
            verdict=verdict,
        )
    documents.write_json(
        REPORTS / "publish.json",
        {
            "schema": 1,
            "tracking_uri": registry.shown_uri(),
            "model_name": names.model_name,
            "version": published.version,
            "run_id": published.run_id,
            "digest": verdict.subject_digest,
            "verdict": verdict.id,
        },
    )
    state = "registered as" if published.created else "already registered as"
    print(f"{names.model_name}: {state} version {published.version} (challenger) in {registry.shown_uri()}")


def main() -> None:
    """Run the stage on params.yaml."""
    run(params.load("publish", PublishParams))


if __name__ == "__main__":
    stage(main)
