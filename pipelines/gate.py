"""Stage ``gate``: decides whether the model may be promoted and puts that in a signed verdict.

Reads   models/classifier/, models/runtime/, models/detector/,
        reports/{validation,runtime,evaluation,robustness,detector}.json,
        reports/outcomes.csv, requirements.lock, data/signer.json, the signing key
Writes  models/release/{model/,evidence/,verdict.json}, reports/gate.json, reports/metrics.json

A model that fails is released too, with a verdict that says so: nothing promotes or serves it, everybody can
see why. So the stage succeeds either way.
"""

from collections.abc import Callable
from pathlib import Path

from buckler import params
from buckler.evaluation import reports
from buckler.evaluation.reports import GateReport
from buckler.measurements.stated import Measured
from buckler.release import bundle, packages
from buckler.release.policy import Policy
from buckler.release.settings import PublishParams
from buckler.serving import selftest
from buckler.state import documents
from pipelines.signer import signing_key
from pipelines.stage import stage

CLASSIFIER = Path("models/classifier")
RUNTIME = Path("models/runtime")
DETECTOR = Path("models/detector")
RELEASE = Path("models/release")
REPORTS = Path("reports")
LOCK = Path("requirements.lock")  # of the Python packages


def run(policy: Policy, names: PublishParams, write_self_test: Callable[[Path], None] | None = None) -> None:
    """Decide, write the signed verdict and the reports, and print the decision.

    Args:
        policy: Floors and ceilings of the gate.
        names: Name and intended use of the registered model.
        write_self_test: As in `buckler.release.bundle.build`.
    """
    verdict = bundle.build(
        RELEASE,
        classifier=CLASSIFIER,
        runtime=RUNTIME,
        detector=DETECTOR,
        reports=REPORTS,
        policy=policy,
        name=names.model_name,
        intended_use=names.intended_use,
        source=bundle.source_of(Path.cwd()),
        packages=packages.of_project(LOCK),
        key=signing_key(),
        write_self_test=write_self_test,
    )
    decision = {name: getattr(verdict, name) for name in ("passed", "reasons", "notes", "policy")}
    reports.write(GateReport(**decision, challenger=verdict.subject_digest, champion=None), REPORTS)
    headline = Measured.read(verdict.measured).headline()
    documents.write_json(REPORTS / "metrics.json", headline | {"gate_passed": verdict.passed})
    print(bundle.describe(verdict))
    if not verdict.passed:
        print("the gate FAILED: this model will be published, but neither promoted nor served")


def main() -> None:
    """Run the stage on params.yaml."""
    run(params.load("gate", Policy), params.load("publish", PublishParams), selftest.write)


if __name__ == "__main__":
    stage(main)
