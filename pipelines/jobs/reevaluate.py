"""Job ``reevaluate``: attacks what serves once more, white box, and lets the gate decide again.

Reads   the champion's release from the registry, data/splits/*.csv and the test pictures
Writes  .buckler/watch/reevaluate.json, a run in MLflow
Keeps   .buckler/watch/attack/: what it goes on with when killed

Failing means that the champion no longer keeps what its verdict promised, or that the verdict has expired.
"""

import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from buckler import gates, params, publishing, signing, tracking, watch
from buckler.data import pictures
from buckler.errors import DataError
from buckler.evaluation import accuracy, report, robustness, roles, subgroups, suite
from buckler.evaluation.journal import Journal
from buckler.evaluation.statistics import wilson
from buckler.models import checkpoint
from buckler.release import PublishParams, policy_of
from buckler.watch import Result, WatchParams

SPLITS = Path("data/splits")
JOURNAL = watch.STATE / "attack"
JOB = "reevaluate"
BATCH_SIZE = 32


def run() -> Result:
    """Attack the champion as params.yaml says, report, and return whether it still passes."""
    cfg, names = params.load("watch", WatchParams), params.load("publish", PublishParams)
    with tempfile.TemporaryDirectory(prefix="buckler-") as scratch:
        path, version = tracking.champion_release(names.model_name, Path(scratch) / "release")
        # Its expiry is judged below: an expired champion is attacked too, somebody wants to know.
        verdict = signing.open_release(path, signing.load_public_key())
        judged = report.read_json(path / signing.EVIDENCE_DIR / "robustness.json")
        journal = Journal(JOURNAL, {"model": verdict.subject_digest, "batch_size": BATCH_SIZE})
        evidence, cells = measure(path / signing.MODEL_DIR, cfg, judged["subgroup_columns"], journal)
    policy = policy_of(verdict)
    reasons = _reasons(verdict, policy, evidence)
    state = {
        "schema": 1,
        "finished_at": datetime.now(UTC).isoformat(),
        "model": {"name": names.model_name, "version": version, "digest": verdict.subject_digest},
        "verdict": {"id": verdict.id, "expires_at": verdict.expires_at.isoformat()},
        "images": evidence.pictures,
        "passed": not reasons,
        "reasons": reasons,
        "floors": {str(radius): floor for radius, floor in sorted(policy.min_robust_accuracy.items())},
        "clean_accuracy": asdict(evidence.clean_accuracy),
        "cells": [asdict(cell) for cell in cells],
    }
    watch.write_state(JOB, state)
    _record(cfg, names, state)
    journal.finish()
    what = f"{names.model_name} version {version}, {evidence.pictures} pictures"
    return Result(not reasons, f"{what}: {'; '.join(reasons) or 'passed'}")


def measure(
    model: Path, cfg: WatchParams, bands: subgroups.Bands, journal: Journal
) -> tuple[gates.Evidence, list[robustness.Cell]]:
    """Attack the model in directory ``model`` on the pinned test pictures.

    Args:
        model: A release's ``model/``.
        cfg: The attack and how many pictures.
        bands: The subgroups to report, as the release's own evidence names them.
        journal: Knows what was done before it was interrupted.

    Raises:
        DataError: The model was made from other data than lies here; it may have been trained on what is
            the test split here.
    """
    info = checkpoint.load_info(model)
    here = pictures.version(SPLITS)
    if here != info.data_version:
        raise DataError(
            f"the champion was made from data {info.data_version}, {SPLITS} holds {here}; "
            "check out that version (`git checkout`, `dvc checkout`) or promote a model made from this one"
        )
    everything = pictures.load(SPLITS / "test.csv", info.labels, size=info.image_size, description="decode test")
    test = everything.subset(cfg.images, cfg.seed)
    spec = suite.AttackSpec(cfg.attack, cfg.epsilon_255, cfg.steps)
    network = checkpoint.load_network(model)
    crafter, scorer = roles.sides(network, info, batch_size=BATCH_SIZE, seed=cfg.seed, runtime=model)
    unattacked = scorer.forward(test.images)
    guesses = unattacked.logits.argmax(axis=1)
    clean = guesses == test.truth
    found = robustness.evaluate(
        crafter, scorer, test, [spec], info=info, clean=unattacked, seed=cfg.seed, journal=journal
    )
    classes = {"labels": info.labels, "malignant": info.malignant}
    worst = robustness.worst_case_rates(found.outcomes, guesses, test.truth, **classes)
    groups = subgroups.groups(pictures.columns(SPLITS / "test.csv", test.ids), bands)
    evidence = gates.Evidence(
        pictures=len(test.ids),
        labels=info.labels,
        clean_accuracy=wilson(int(clean.sum()), len(clean)),
        worst_case={entry.epsilon_255: entry for entry in worst},
        subgroups=robustness.subgroup_rates(groups, found.outcomes, guesses, test.truth, **classes),
        malignant_recall=accuracy.malignant_recall(guesses, test.truth, info.labels, info.malignant),
    )
    return evidence, found.cells


def _reasons(verdict: signing.Verdict, policy: gates.Policy, evidence: gates.Evidence) -> list[str]:
    reasons = list(gates.decide_again(evidence, policy).failures)
    if not verdict.passed:
        reasons.append("its verdict says that it never passed the gate")
    if verdict.expired():
        reasons.append(f"its verdict expired at {verdict.expires_at.isoformat()}")
    return reasons


def _record(cfg: WatchParams, names: PublishParams, state: dict[str, Any]) -> None:
    tags = {
        tracking.KIND_TAG: "job",
        "job": JOB,
        "model_version": state["model"]["version"],
        tracking.DIGEST_TAG: state["model"]["digest"],
        tracking.OUTCOME_TAG: "passed" if state["passed"] else "failed",
    }
    run_id = tracking.start_run(names.experiment, f"{JOB} {state['finished_at']}", tags)
    points = list(publishing.rate("clean_accuracy", state["clean_accuracy"]))
    for cell in state["cells"]:
        name = f"{cell['name']}_robust_accuracy"
        points += publishing.rate(name, cell["robust_accuracy"], cell["epsilon_255"])
    parameters = publishing.flatten({"watch": asdict(cfg)})
    tracking.log(run_id, params=parameters, metrics=points)
    tracking.finish_run(run_id)
