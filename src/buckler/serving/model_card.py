"""Model card: description, evaluation, robustness and limits of a released model.

All content comes from the signed verdict or from files whose digests it contains; measurements have the types of the
reports, and values that a verdict lacks are ``None``. Source: Mitchell et al., "Model cards for model reporting", arXiv
1810.03993, for the sections.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from buckler.measurements.data_source import DataSource
from buckler.measurements.decisions import ConfidenceBin
from buckler.measurements.earlier import with_units
from buckler.measurements.results import MIN_POINTED, Cell, CheckResult, HeatMapCheck, Rate, Subgroup, WorstCase
from buckler.measurements.stated import Measured, MeasuredDecisions, MeasuredDetector, MeasuredFinding
from buckler.modality.base import UNRESTORED
from buckler.trust.standing import HOLDS, Standing, State
from buckler.trust.verdict import Verdict

if TYPE_CHECKING:  # loads TensorFlow
    from buckler.models.info import ModelInfo

SCHEMA = 5

# By `CardData.source`.
SOURCES: dict[DataSource | None, str] = {
    "synthetic": "pictures drawn by Buckler's generator, none of a patient",
    "directory": "pictures from a folder",
    None: "not stated",
}
SYNTHETIC_BANNER = "Demo model, synthetic pictures, not for clinical use"


class CardModel(BaseModel):
    """The model itself."""

    name: str
    version: str
    digest: str = Field(description="SHA-256 of the model directory")
    architecture: str = Field(description="Name of the network; `file`: somebody's own, from a file")
    initial_weights: str | None = Field(
        description="Digest of the weights that training started from, or of the file of the network; `none`: random;"
        " null: an earlier version did not record it"
    )
    defence: str = Field(description="Defence in training")
    restore: str = Field(description="Restoration step that every record passes before the network; `none`: no step")
    labels: list[str]
    malignant: list[str] = Field(description="Labels that it is dangerous to miss")
    modality: str = Field(description="What a record is: `picture`, for example")
    shape: list[int] = Field(description="Shape of the model's input; of pictures height, width and channels")
    record_schema: dict[str, Any] | None = Field(
        description="JSON schema of a record to classify; null if records are files of another kind, as pictures are"
    )
    image_size: int = Field(description="First number of the shape: of pictures, the pixels a side")


class CardData(BaseModel):
    """Training and evaluation data."""

    version: str = Field(description="Digest of the splits")
    source: DataSource | None = Field(
        description="`synthetic`: drawn by the generator; `directory`: from a folder; null: an earlier version did not"
        " record it"
    )
    pictures_attacked: int | None


class CardVerdict(BaseModel):
    """Signer and validity of the verdict."""

    id: str
    passed: bool
    reasons: list[str]
    notes: list[str]
    issued_at: datetime
    expires_at: datetime
    expired: bool
    commit: str | None = Field(description="Commit of the code that trained and evaluated it")
    uncommitted_changes: bool | None


class CardStanding(BaseModel):
    """Whether the verdict is still valid, according to later signed statements of the watch."""

    state: State = Field(description="`degraded`: every answer needs review; `withdrawn`: the model does not answer")
    reasons: list[str]
    issued_at: datetime = Field(description="When the verdict was issued or last renewed")
    expires_at: datetime = Field(description="Expiry of the verdict, renewals included")
    moment: datetime = Field(description="When the standing was signed; without one, when the verdict was issued")


class CardClean(BaseModel):
    """Performance without an attacker."""

    accuracy: Rate | None
    malignant_recall: Rate | None
    calibration_error: float | None = Field(description="Expected calibration error of the served probabilities")
    reliability: tuple[ConfidenceBin, ...] = Field(description="How many answers of each probability were right")


class CardHeatMap(BaseModel):
    """Whether the service draws heat maps over pictures."""

    checked: Rate | None = Field(description="Share of the test pictures on whose lesion the hottest spot lay")
    shown: bool
    reason: str | None = Field(description="Why heat maps are not shown, or shown without a check")

    @classmethod
    def of(cls, check: HeatMapCheck | None, info: "ModelInfo") -> "CardHeatMap":
        """Return the entry for a check's result, None if there was no check, of the model that ``info`` describes."""
        if not info.heat_maps:
            other = "Not shown: no heat map explains this network, in which other layers follow its last maps."
            return cls(checked=None, shown=False, reason=other)
        if check is None:
            unknown = "Not checked: it is not known where on the test pictures the signs of their classes are."
            return cls(checked=None, shown=True, reason=unknown)
        if check.reliable:
            return cls(checked=check.pointed, shown=True, reason=None)
        found = (
            f"Not shown: the hottest spot lay on the lesion in only {check.pointed.value:.0%} of"
            f" {check.pointed.pictures} test pictures; at least {MIN_POINTED:.0%} are required."
        )
        return cls(checked=check.pointed, shown=False, reason=found)


class ModelCard(BaseModel):
    """The complete card of a live model."""

    schema_: int = Field(default=SCHEMA, serialization_alias="schema")
    model: CardModel
    intended_use: str = Field(description="What its maker intends it for")
    data: CardData
    verdict: CardVerdict
    standing: CardStanding
    approved_by: list[str] = Field(description="People whose signed approvals of the promotion this service verified")
    clean: CardClean
    decisions: MeasuredDecisions | None = Field(
        description="Accepted misses and reviews on clean test pictures; none for models of earlier versions"
    )
    worst_case: tuple[WorstCase, ...]
    attacks: tuple[Cell, ...]
    subgroups: tuple[Subgroup, ...]
    findings: dict[str, MeasuredFinding] = Field(
        description="Each finding on clean pictures and under attack, of a model whose labels are sets of findings"
    )
    checks: tuple[CheckResult, ...]
    floors: dict[str, Any] = Field(description="The policy of the gate")
    detector: MeasuredDetector | None
    heat_map: CardHeatMap
    limits: list[str] = Field(description="Limits of the model")


def card(
    verdict: Verdict,
    info: "ModelInfo",
    *,
    name: str,
    version: str,
    now: datetime,
    standing: Standing | None = None,
    approved_by: Sequence[str] = (),
) -> ModelCard:
    """Return the card of a released model.

    Args:
        verdict: A verified verdict.
        info: Description of the model directory that ``verdict`` covers.
        name, version: Name and version in the service.
        now: Timezone-aware time at which expiry is checked.
        standing: Statement signed after the verdict; None if there is none.
        approved_by: Names of the people who approved its promotion.
    """
    measured = Measured.read(verdict.measured)
    expires_at = standing.expires_at if standing else verdict.expires_at
    return ModelCard(
        model=CardModel(
            name=name,
            version=version,
            digest=verdict.subject_digest,
            architecture=info.architecture,
            initial_weights=info.initial_weights,
            defence=info.defence,
            restore=info.restore,
            labels=list(info.labels),
            malignant=list(info.dangerous),
            modality=info.modality,
            shape=list(info.shape),
            record_schema=None if (schema := info.form.modality.schema(info.shape)) is None else dict(schema),
            image_size=info.shape[0],
        ),
        intended_use=intended_use(verdict.model.intended_use, info),
        data=CardData(
            version=info.data_version,
            source=info.data_source,
            pictures_attacked=measured.data.images if measured.data else None,
        ),
        verdict=_verdict(verdict, expired=now >= expires_at),
        standing=CardStanding(
            state=standing.state if standing else HOLDS,
            reasons=list(standing.reasons) if standing else [],
            issued_at=standing.issued_at if standing else verdict.issued_at,
            expires_at=expires_at,
            moment=standing.moment if standing else verdict.issued_at,
        ),
        approved_by=list(approved_by),
        clean=CardClean(
            accuracy=measured.clean_accuracy,
            malignant_recall=measured.malignant_recall,
            calibration_error=measured.calibration_error,
            reliability=measured.reliability,
        ),
        decisions=measured.decisions,
        worst_case=measured.worst_case,
        attacks=measured.attacks,
        subgroups=measured.subgroups,
        findings=measured.findings,
        checks=measured.checks,
        floors={name: with_units(floor) for name, floor in verdict.policy.items()},
        detector=measured.detector,
        heat_map=CardHeatMap.of(measured.heat_map, info),
        limits=[
            *limits(info, measured),
            f"The verdict is valid until {expires_at:%Y-%m-%d %H:%M} UTC; after that, every answer needs review.",
        ],
    )


def _verdict(verdict: Verdict, *, expired: bool) -> CardVerdict:
    return CardVerdict(
        id=verdict.id,
        passed=verdict.passed,
        reasons=list(verdict.reasons),
        notes=list(verdict.notes),
        issued_at=verdict.issued_at,
        expires_at=verdict.expires_at,
        expired=expired,
        commit=verdict.source.commit,
        uncommitted_changes=verdict.source.dirty,
    )


def intended_use(stated: str, info: "ModelInfo") -> str:
    """Return what a model is for: as its verdict states it, else a sentence from its data and labels.

    Args:
        stated: In the verdict; may be empty.
        info: Description of the model.
    """
    if stated:
        return stated
    if info.data_source == "synthetic":
        return "To try Buckler on drawn pictures. Not for clinical use."
    return f"To support a clinician who judges which of these a picture shows: {', '.join(info.labels)}."


def limits(info: "ModelInfo", measured: Measured) -> list[str]:
    """Return the limits of a model as sentences.

    Args:
        info: Description of the model.
        measured: What its verdict states.
    """
    radius = max((row.radius for row in measured.worst_case), default=None)
    labels = ", ".join(info.labels)
    found = [
        "It supports a person's decision and does not replace it: it sees one picture and nothing else of the patient.",
        f"It knows only the labels {labels}: a picture of anything else gets one of these labels too.",
        f"Measured on the pictures of data version {info.data_version}; the results do not apply to cameras, people or"
        " diseases that are not among them.",
        f"Attacked with changes of at most {radius} per value; the results do not apply to larger changes, patches,"
        " manual edits, or changes of the body or the camera."
        if radius
        else "Its robustness is unknown: the verdict contains no worst case.",
        "A picture that the detector calls clean may still be attacked, above all by someone who knows the detector.",
    ]
    if info.architecture == "file":
        found.insert(
            3,
            "It was trained elsewhere, on pictures that are not known here: if the test pictures were among them, its"
            " results are too good.",
        )
    elif info.defence == "none":
        found.insert(3, "It was trained without a defence against attacks.")
    if info.restore != UNRESTORED:
        sentence = f"Every picture passes the step {info.restore} before the network. Attacks change it before that."
        found.insert(4, sentence)
    found[2:2] = _limits_of_decisions(info, measured.decisions)
    if info.data_source == "synthetic":
        found.insert(0, "It learnt from drawn pictures, not from pictures of patients: it is not for clinical use.")
    return found


def _limits_of_decisions(info: "ModelInfo", decisions: MeasuredDecisions | None) -> list[str]:
    if not info.dangerous:
        return ["No label is marked as dangerous to miss: no answer goes to review because danger is not excluded."]
    if decisions is None or decisions.danger is None:
        return ["It is not known how many dangerous pictures it accepts as harmless."]
    if decisions.danger.limit is None:
        pictures = decisions.danger.pictures
        return [
            f"{pictures} dangerous calibration pictures set no limit: every answer with a harmless label needs review."
        ]
    missed = _percent(decisions.with_limit.accepted_misses)
    return [f"Of the dangerous test pictures, {missed} got a harmless label and no reason for review."]


LONGEST_MARKDOWN = 5000  # characters that MLflow's databases store of a version's description


def markdown(card: ModelCard) -> str:
    """Return the card as Markdown for a registry's pages; a card that is too long omits the single attacks."""
    limits = _bullets("What not to expect", card.limits)
    sections = [_head(card), _under_attack(card), _each_attack(card), _findings(card), limits]
    text = "\n\n".join(section for section in sections if section)
    if len(text) > LONGEST_MARKDOWN:
        sections[2] = "Each attack: see the nested runs."
        text = "\n\n".join(section for section in sections if section)
    return text


def _input(model: CardModel) -> str:
    return f"{model.modality} of {' x '.join(map(str, model.shape))}"


def _head(card: ModelCard) -> str:
    verdict, model = card.verdict, card.model
    decided = card.decisions.with_limit if card.decisions else None
    outcome = "passed its gate" if verdict.passed else "FAILED its gate"
    changed = " with uncommitted changes" if verdict.uncommitted_changes else ""
    times = f"issued {verdict.issued_at:%Y-%m-%d %H:%M}, expires {verdict.expires_at:%Y-%m-%d %H:%M} UTC"
    rows = [
        ("verdict", f"`{verdict.id}`, {times}"),
        ("model", f"`{model.digest}`"),
        ("network", f"{_network(model)}, input: {_input(model)}, defence: {model.defence}, restored: {model.restore}"),
        ("labels", ", ".join(model.labels)),
        ("data", f"`{card.data.version}`, {SOURCES[card.data.source]}"),
        ("code", f"`{verdict.commit or 'not in git'}`{changed}"),
        ("clean accuracy", _percent(card.clean.accuracy)),
        ("recall of " + (", ".join(model.malignant) or "dangerous labels"), _percent(card.clean.malignant_recall)),
        ("accepted misses", _percent(decided.accepted_misses if decided else None)),
        ("reviews", _percent(decided.reviews if decided else None)),
    ]
    banner = f"**{SYNTHETIC_BANNER}**" if card.data.source == "synthetic" else ""
    parts = (
        f"## {model.name}: {outcome}",
        banner,
        f"Intended use: {card.intended_use}",
        _table(("", ""), rows),
        _bullets("Why it failed", verdict.reasons),
    )
    return "\n\n".join(part for part in parts if part)


def _network(model: CardModel) -> str:
    return f"file, {model.initial_weights}" if model.architecture == "file" else model.architecture


def _under_attack(card: ModelCard) -> str:
    rows = [
        (f"{row.radius}", _percent(row.robust_accuracy), _percent(row.sensitivity), _percent(row.specificity))
        for row in card.worst_case
    ]
    titles = ("worst case up to", "robust accuracy", "sensitivity", "specificity")
    return f"### Under attack\n\n{_table(titles, rows)}" if rows else ""


def _each_attack(card: ModelCard) -> str:
    rows = [(each.name, f"{each.radius}", _percent(each.robust_accuracy)) for each in card.attacks]
    return _table(("attack", "radius", "robust accuracy"), rows) if rows else ""


def _findings(card: ModelCard) -> str:
    rows = []
    for name, found in card.findings.items():
        clean = found.clean
        rows.append((name, "none", _percent(clean.sensitivity), _percent(clean.specificity)))
        rows += [
            ("", f"up to {row.radius}", _percent(row.sensitivity), _percent(row.specificity))
            for row in found.worst_case
        ]
    titles = ("finding", "attack", "sensitivity", "specificity")
    return f"### Findings\n\n{_table(titles, rows)}" if rows else ""


def _table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [titles, ("---",) * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bullets(title: str, lines: list[str]) -> str:
    return "\n".join([f"### {title}", "", *(f"- {line}" for line in lines)]) if lines else ""


def _percent(rate: Rate | None) -> str:
    return f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%})" if rate else "not measured"
