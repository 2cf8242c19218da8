"""Small projects for tests: the files that the gate reads, with consistent numbers."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image

from buckler.data import manifest, pictures
from buckler.detection.adversarial import AdversarialDetector
from buckler.detection.out_of_distribution import OutOfDistributionDetector
from buckler.detection.quality import QualityLimits
from buckler.detection.screening import Screening
from buckler.evaluation import reports
from buckler.evaluation.reports import (
    DecisionsReport,
    DetectorReport,
    EvaluationReport,
    MeasuredModel,
    RobustnessReport,
    RuntimeReport,
    ValidationReport,
)
from buckler.evaluation.statistics import wilson
from buckler.measurements.decisions import ConfidenceBin, DangerLimit, Decisions
from buckler.measurements.detection import DetectedAttack, RiskPoint
from buckler.measurements.results import (
    AttackedData,
    Cell,
    CheckResult,
    ClassRow,
    DataVersion,
    Expectation,
    Parity,
    ParityAttack,
    ParityPolicy,
    ReliabilityBin,
    Subgroup,
    WorstCase,
)
from buckler.modality.picture.measures import QUALITY_MEASURES
from buckler.radius import StatedRadius
from buckler.release import bundle
from buckler.release.policy import Policy
from buckler.release.settings import PublishParams
from buckler.state import documents
from buckler.trust import digests
from buckler.trust.approval import Signatures
from buckler.trust.keys import Keys
from buckler.trust.opened_files import OpenedFiles
from buckler.trust.public_keys import PublicKeys, TrustedKeys
from buckler.trust.verdict import Source, Verdict

PICTURES = 100
LABELS = ("benign", "malignant")
POLICY = Policy(
    min_clean_accuracy=0.7,
    min_robust_accuracy={1: 0.3},
    min_malignant_recall=0.6,
    min_robust_sensitivity={1: 0.1},
    min_robust_specificity={1: 0.1},
    min_subgroup_clean_accuracy=0.3,
    min_subgroup_robust_accuracy={},
    min_subgroup_records=20,
    max_margin_of_error=0.15,
    max_calibration_error=0.2,
    max_accepted_misses=0.05,
    max_detector_fpr=0.12,
    max_detector_subgroup_fpr=0.15,
    min_detector_auc={},
    max_evaded={},
    allowed_warnings=("mostly_colour", "no_repeated_files"),
    max_quarantined=1.0,
    min_class_records=1,
    regression_alpha=0.05,
    valid_days=30,
    signatures=Signatures(0, {}),
)
# An untrained network passes this policy.
LENIENT = replace(
    POLICY,
    min_clean_accuracy=0.0,
    min_robust_accuracy={1: 0.0},
    min_malignant_recall=0.0,
    max_accepted_misses=1.0,
    min_robust_sensitivity={},
    min_robust_specificity={},
    min_subgroup_clean_accuracy=0.0,
    min_subgroup_robust_accuracy={},
)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PROMOTION_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
PUBLIC, PROMOTION_PUBLIC = (PublicKeys.of(key.public_key()) for key in (KEY, PROMOTION_KEY))
TRUSTED = TrustedKeys(PUBLIC, PROMOTION_PUBLIC)
KEYS = Keys(PROMOTION_KEY, TRUSTED)


def make_project(root: Path, *, clean: int = 80, robust: int = 40, weights: bytes = b"weights") -> Path:
    """Write models/ and reports/ of a model with ``clean`` correct answers, ``robust`` of them under attack."""
    classifier = root / "models/classifier"
    for name, content in {
        "classifier/classifier.keras": weights,
        "classifier/model.json": json.dumps(
            {"schema": 3, "architecture": "tiny", "labels": LABELS, "malignant": ["malignant"]}
            | {"shape": [32, 32, 3], "data_version": "sha256:data", "defence": "none"}
        ).encode(),
        "runtime/runtime.json": b'{"schema": 1, "precisions": ["float32"], "engine": "test"}',
    }.items():
        path = root / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    empty_screening().save(root / "models/detector")
    runtime = digests.directory_digest(root / "models/runtime")
    write_reports(root / "reports", digests.directory_digest(classifier), clean, robust, runtime=runtime)
    return root


def empty_screening() -> Screening:
    """Return input checks of zeros, which can be stored and loaded and take no fitting."""
    columns, zeros = np.zeros(1, np.int64), np.zeros((1, 1), np.float32)
    measures = np.zeros(len(QUALITY_MEASURES), np.float32)
    return Screening(
        AdversarialDetector(columns, columns, *[zeros] * 8),
        OutOfDistributionDetector(columns, *[zeros] * 4),
        QualityLimits(measures, measures),
        threshold=2.1,
        max_fpr=0.05,
        confidence=0.95,
        strangeness=0.0,
        min_confidence=0.0,
        temperature=1.0,
        dangerous=(1,),
        min_sensitivity=0.95,
        modality="picture",
        danger_limit=1.0,
    )


def write_reports(directory: Path, digest: str, clean: int, robust: int, *, runtime: str = "sha256:none") -> None:
    """Write the reports of the stages before the gate, about the digests of a classifier and its runtime."""
    model = MeasuredModel(digest, runtime)
    for report in (
        validation(),
        evaluation(model, clean),
        robustness(model, clean, robust),
        detector(model),
        decisions(model),
        runtime_report(digest, runtime),
    ):
        reports.write(report, directory)
    rows = [
        {"id": f"{i:03}", "label": LABELS[i % 2], "clean": int(i < clean), "worst_1/255": int(i < robust)}
        for i in range(PICTURES)
    ]
    documents.write_csv(directory / "outcomes.csv", rows)
    history = [{"epoch": epoch, "loss": 1 / epoch, "val_accuracy": 0.5 + epoch / 10} for epoch in (1, 2, 3)]
    documents.write_csv(directory / "training/history.csv", history)
    (directory / "plots").mkdir(exist_ok=True)
    (directory / "plots/confusion.png").write_bytes(b"\x89PNG")


def validation() -> ValidationReport:
    """Return the report of the stage ``validate``: every expectation was met."""
    half = PICTURES // 2
    return ValidationReport(
        passed=True,
        data=DataVersion("sha256:data", PICTURES),
        ingested=PICTURES,
        classes=dict.fromkeys(LABELS, half),
        quarantined=(),
        repeated=(),
        expectations=(Expectation("unique_ids", "critical", True, "every id once", f"all {PICTURES}"),),
    )


def evaluation(model: MeasuredModel, clean: int) -> EvaluationReport:
    """Return the report of the stage ``evaluate`` with ``clean`` correct answers."""
    row = ClassRow(0.8, (0.7, 0.9), 0.8, (0.7, 0.9), 0.8, PICTURES // 2)
    return EvaluationReport(
        model=model,
        data=DataVersion("sha256:data", PICTURES),
        labels=LABELS,
        scored_in="float32",
        computed_on="avx2",
        clean_accuracy=wilson(clean, PICTURES),
        balanced_accuracy=wilson(clean, PICTURES),
        roc_auc=0.9,
        roc_auc_interval=(0.82, 0.95),
        calibration_error=0.05,
        malignant_recall=wilson(40, 50),
        classes=dict.fromkeys(LABELS, row),
        confusion=[[40, 10], [10, 40]],
        reliability=[ReliabilityBin(0.9, 0.8, (0.7, 0.9), PICTURES)],
    )


def robustness(model: MeasuredModel, clean: int, robust: int) -> RobustnessReport:
    """Return the report of the stage ``attack``: FGSM at two radii leaves ``robust`` and one fewer right."""
    return RobustnessReport(
        model=model,
        data=AttackedData("sha256:data", PICTURES, "0" * 64),
        labels=LABELS,
        malignant=LABELS[1:],
        computed_on="avx2",
        clean_accuracy=wilson(clean, PICTURES),
        clean_confusion=[[40, 10], [10, 40]],
        cells=tuple(cell(radius, max(robust - radius + 1, 0), clean) for radius in (1, 2)),
        worst_case=(worst_case(robust, PICTURES),),
        subgroup_columns={},
        subgroups=tuple(subgroup(label, clean // 2, robust // 2) for label in LABELS),
        checks=(CheckResult("gradients_not_zero", "gradients", True, "0 of 32"),),
        convergence=(),
        illustrations=(),
    )


def detector(model: MeasuredModel) -> DetectorReport:
    """Return the report of the stage ``detect``: FGSM is detected with an AUC of 0.8."""
    half = wilson(50, PICTURES)
    row = DetectedAttack(
        attack="fgsm",
        norm="linf",
        radius=StatedRadius(1),
        stops_at_boundary=False,
        adaptive=False,
        auc=0.8,
        tpr_at_fpr={"0.05": 0.4},
        tpr_at_fpr_interval={"0.05": (0.3, 0.5)},
        flagged=wilson(40, PICTURES),
        wrong=half,
        wrong_and_unflagged=wilson(30, PICTURES),
        steps=1,
    )
    return DetectorReport(
        model=model,
        scored_in="float32",
        computed_on="avx2",
        threshold=2.1,
        max_fpr=0.05,
        clean_fpr=wilson(5, PICTURES),
        clean_flagged={"adversarial": wilson(5, PICTURES), "any": wilson(8, PICTURES)},
        subgroups=(),
        attacks=(row,),
        worst=(),
        harmless=(),
        foreign=(),
        risk_coverage=(RiskPoint(1.0, 0.2),),
    )


def decisions(model: MeasuredModel, *, accepted: int = 1) -> DecisionsReport:
    """Return the decisions of the stage ``detect``: ``accepted`` of 50 malignant pictures pass as benign."""
    half = PICTURES // 2

    def decided(missed: int, reviews: int) -> Decisions:
        held = {"danger_not_excluded": wilson(reviews, PICTURES)} if reviews else {}
        return Decisions(
            accepted_misses=wilson(missed, half),
            reviews=wilson(3 + reviews, PICTURES),
            harmless_reviews=wilson(3, half),
            dangerous_reviews=wilson(reviews, half),
            reasons={**held, "low_confidence": wilson(3, PICTURES)},
        )

    return DecisionsReport(
        model=model,
        data=DataVersion("sha256:data", PICTURES),
        scored_in="float32",
        computed_on="avx2",
        temperature=1.5,
        uncalibrated_error=0.08,
        calibration_error=0.05,
        reliability=(ConfidenceBin(0.8, 0.9, 0.85, 49, 40), ConfidenceBin(0.9, 1.0, 0.95, 51, 48)),
        danger=DangerLimit(0.2, 0.95, 0.95, pictures=93, missed=1, sensitivity_low=0.9501),
        with_limit=decided(accepted, 9),
        without_limit=decided(accepted + 9, 0),
    )


def runtime_report(digest: str, runtime: str) -> RuntimeReport:
    """Return the report of the stage ``export``: int8 is too inexact, float32 serves."""
    return RuntimeReport(
        model=MeasuredModel(digest, runtime),
        serves="float32",
        attack=ParityAttack("pgd", (StatedRadius(1), StatedRadius(2)), 10),
        crafted_in="float32",
        computed_on="avx2",
        policy=ParityPolicy(0.99, 0.01, 0.01, 0.01),
        precisions={
            "int8": Parity(PICTURES, 0.9, 0.0, 0.0, 0.0),
            "float32": Parity(PICTURES, 1.0, 0.0, 0.0, 0.0),
        },
    )


def cell(radius: int, robust: int, clean: int) -> Cell:
    """Return one attack's result at one radius."""
    return Cell(
        name="fgsm",
        attack="fgsm",
        knowledge="white_box",
        norm="linf",
        radius=StatedRadius(radius),
        steps=1,
        restarts=1,
        early_exit=True,
        target=None,
        queries=1000,
        tuning={},
        only_survivors=False,
        seed=7,
        crafted_in="float32",
        scored_in="float32",
        robust_accuracy=wilson(robust, PICTURES),
        attack_success_rate=1 - robust / clean,
        attack_success_rate_interval=wilson(clean - robust, clean).interval,
        confusion=[[20, 30], [30, 20]],
        malignant_to_benign_rate=0.6,
        malignant_to_benign_rate_interval=wilson(30, 50).interval,
    )


def worst_case(robust: int, count: int) -> WorstCase:
    """Return the worst case up to 1/255; each class has half of ``robust``."""
    half = wilson(robust // 2, count // 2)
    lost = wilson(count // 2 - robust // 2, count // 2)
    return WorstCase(
        StatedRadius(1), wilson(robust, count), malignant_to_benign_rate=lost, sensitivity=half, specificity=half
    )


def subgroup(label: str, clean: int, robust: int) -> Subgroup:
    """Return the row of one class with half of the pictures."""
    half = PICTURES // 2
    held = WorstCase(StatedRadius(1), wilson(robust, half), None, None, None)
    return Subgroup("label", label, half, wilson(clean, half), (held,))


def build(root: Path, *, policy: Policy = POLICY, name: str = "skin-lesion", **options: object) -> Verdict:
    """Build ``<root>/models/release`` of the project in ``root``."""
    return bundle.build(
        root / "models/release",
        **{
            "classifier": root / "models/classifier",
            "detector": root / "models/detector",
            "reports": root / "reports",
            "policy": policy,
            "name": name,
            "source": Source("0" * 40, False),
            "packages": (),
            "key": KEY,
            **options,
        },
    )


def publish(root: Path, verdict: Verdict, name: str) -> str:
    """Log the release of a project to MLflow, register it as ``name`` and return the number of its version."""
    from buckler.release.publish import publish as publish_release  # MLflow takes seconds to load

    published = publish_release(
        OpenedFiles.of(root / "models/release"),
        root / "reports",
        names=PublishParams(name, name),
        parameters={},
        source=Source(None, False),
        verdict=verdict,
    )
    return published.version


def write_splits(root: Path, size: int, count: int, generator: np.random.Generator) -> None:
    """Write ``count`` pictures of noise with alternating labels, and three splits that each list all pictures."""
    rows = []
    for i in range(count):
        path = root / f"data/images/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (size, size, 3), np.uint8)).save(path)
        content = path.read_bytes()
        about = {"id": path.name, "path": f"data/images/{i}.png", "label": LABELS[i % 2], "group": ""}
        facts = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "source": "test"}
        rows.append({**about, **facts, "width": size, "height": size, "mode": "RGB"})
    for name in pictures.SPLITS:
        manifest.write(manifest.build(rows), root / f"data/splits/{name}.csv")
