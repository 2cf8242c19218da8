"""Model card: description, evaluation, robustness and limits of a released model.

All content comes from the signed verdict or from files whose digests it contains; values that a verdict lacks are
``None``. Source: Mitchell et al., "Model cards for model reporting", arXiv 1810.03993, for the sections.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from buckler.trust.standing import HOLDS, Standing, State
from buckler.trust.verdict import Verdict

if TYPE_CHECKING:  # loads TensorFlow
    from buckler.models.info import ModelInfo

SCHEMA = 1


class Rate(BaseModel):
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float
    pictures: int | None = Field(default=None, description="Over how many pictures it was taken")


class CardModel(BaseModel):
    """The model itself."""

    name: str
    version: str
    digest: str = Field(description="SHA-256 of the model directory")
    architecture: str
    defence: str = Field(description="What was done against attacks in training")
    labels: list[str]
    malignant: list[str] = Field(description="Labels whose flip to another is the dangerous one")
    image_size: int = Field(description="Pixels a side at the model's input")


class CardData(BaseModel):
    """Training and evaluation data."""

    version: str = Field(description="Digest of the splits")
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
    commit: str | None = Field(description="Of the code that trained and judged it")
    uncommitted_changes: bool | None


class CardStanding(BaseModel):
    """Whether the verdict is still valid, according to later signed statements of the watch."""

    state: State = Field(description="`degraded`: every answer asks for review; `withdrawn`: there are no answers")
    reasons: list[str]
    issued_at: datetime = Field(description="When the verdict was given, or renewed last")
    expires_at: datetime = Field(description="As renewed")
    moment: datetime = Field(description="When it was signed; the verdict's own time if nothing was since")


class CardClean(BaseModel):
    """Performance without an attacker."""

    accuracy: Rate | None
    malignant_recall: Rate | None
    calibration_error: float | None


class CardRobust(BaseModel):
    """Performance under the worst of all attacks at all radii up to this one."""

    epsilon_255: int = Field(description="Largest change of a pixel, in levels of 255")
    robust_accuracy: Rate
    sensitivity: Rate | None = None
    specificity: Rate | None = None
    malignant_to_benign_rate: Rate | None = None


class CardAttack(BaseModel):
    """One attack at one radius."""

    name: str
    knowledge: str | None = Field(default=None, description="What the attacker has of the model")
    norm: str | None = None
    epsilon_255: int | None = None
    steps: int | None = None
    robust_accuracy: Rate
    attack_success_rate: float | None = None


class CardGroup(BaseModel):
    """A subgroup of the pictures."""

    column: str
    group: str
    pictures: int
    clean_accuracy: Rate
    worst_case: list[CardRobust]


class CardCheck(BaseModel):
    """One doubt about the evaluation itself."""

    name: str
    passed: bool
    detail: str


class CardDetected(BaseModel):
    """The detector's performance against one attack."""

    attack: str
    epsilon_255: int | None = None
    adaptive: bool = Field(description="Whether the attacker knows the detector")
    stops_at_boundary: bool = Field(default=False, description="Whether the attack stops once the answer is wrong")
    auc: float | None = None
    flagged: Rate | None = Field(default=None, description="Share of attacked pictures above the threshold")
    wrong_and_unflagged: Rate | None = Field(default=None, description="Share that nothing speaks against")


class CardDetector(BaseModel):
    """The adversarial-input detector."""

    threshold: float
    max_fpr: float = Field(description="Share of clean pictures that the threshold was set to flag at most")
    clean_fpr: Rate | None = Field(description="Share of clean test pictures that it flags")
    attacks: list[CardDetected]


class ModelCard(BaseModel):
    """The complete card of a live model."""

    schema_: int = Field(default=SCHEMA, serialization_alias="schema")
    model: CardModel
    data: CardData
    verdict: CardVerdict
    standing: CardStanding
    clean: CardClean
    worst_case: list[CardRobust]
    attacks: list[CardAttack]
    subgroups: list[CardGroup]
    checks: list[CardCheck]
    floors: dict[str, Any] = Field(description="The policy it was judged by")
    detector: CardDetector | None
    limits: list[str] = Field(description="What must not be expected of it")


def card(
    verdict: Verdict,
    info: "ModelInfo",
    *,
    name: str,
    version: str,
    now: datetime,
    standing: Standing | None = None,
) -> ModelCard:
    """Return the card of a released model.

    Args:
        verdict: A verified verdict.
        info: Description of the model directory that ``verdict`` covers.
        name, version: Name and version in the service.
        now: Timezone-aware time at which expiry is checked.
        standing: Statement signed after the verdict; None if there is none.
    """
    said = verdict.statement
    expires_at = standing.expires_at if standing else verdict.expires_at
    content = {
        "model": {
            "name": name,
            "version": version,
            "digest": verdict.subject_digest,
            "architecture": info.architecture,
            "defence": info.defence,
            "labels": list(info.labels),
            "malignant": list(info.dangerous),
            "image_size": info.image_size,
        },
        "data": {"version": info.data_version, "pictures_attacked": said.get("data", {}).get("images")},
        "verdict": {**_verdict(verdict), "expired": now >= expires_at},
        "standing": {
            "state": standing.state if standing else HOLDS,
            "reasons": list(standing.reasons) if standing else [],
            "issued_at": standing.issued_at if standing else verdict.issued_at,
            "expires_at": expires_at,
            "moment": standing.moment if standing else verdict.issued_at,
        },
        "clean": {
            "accuracy": said.get("clean_accuracy"),
            "malignant_recall": said.get("malignant_recall"),
            "calibration_error": said.get("calibration_error"),
        },
        "worst_case": said.get("worst_case", []),
        "attacks": said.get("attacks", []),
        "subgroups": said.get("subgroups", []),
        "checks": said.get("checks", []),
        "floors": said.get("policy", {}),
        "detector": said.get("detector"),
        "limits": _limits(said, info, verdict, expires_at),
    }
    return ModelCard.model_validate(content)


def _verdict(verdict: Verdict) -> dict[str, Any]:
    source = verdict.statement.get("source", {})
    return {
        "id": verdict.id,
        "passed": verdict.passed,
        "reasons": verdict.statement.get("reasons", []),
        "notes": verdict.statement.get("notes", []),
        "issued_at": verdict.issued_at,
        "expires_at": verdict.expires_at,
        "commit": source.get("commit"),
        "uncommitted_changes": source.get("dirty"),
    }


def _limits(said: Mapping[str, Any], info: "ModelInfo", verdict: Verdict, expires_at: datetime) -> list[str]:
    radius = max((row["epsilon_255"] for row in said.get("worst_case", [])), default=0)
    labels = ", ".join(info.labels)
    limits = [
        "An aid to a person who decides, never the decision: it sees one picture and nothing of the patient.",
        f"It knows {labels} and nothing else: a picture of something else is given one of these all the same.",
        f"Measured on the pictures of data version {info.data_version}; it says nothing of cameras, skins or"
        " populations that those do not hold.",
        f"Attacked by changes of at most {radius}/255 a pixel; nothing is claimed of larger ones, of patches, edits by"
        " hand, or what is done to the skin or the camera."
        if radius
        else "Nothing is claimed of it under attack: the verdict holds no worst case.",
        "A picture that the detector calls clean may still be attacked, above all by whoever knows the detector.",
        f"The verdict holds until {expires_at:%Y-%m-%d %H:%M} UTC; after that every answer asks for review.",
    ]
    if info.defence == "none":
        limits.insert(3, "It was trained without any defence against attacks.")
    return limits


LONGEST_MARKDOWN = 5000  # characters that MLflow's databases store of a version's description


def markdown(card: ModelCard) -> str:
    """Return the card as Markdown for a registry's pages; a card that is too long omits the single attacks."""
    sections = [_head(card), _under_attack(card), _each_attack(card), _bullets("What not to expect", card.limits)]
    text = "\n\n".join(section for section in sections if section)
    if len(text) > LONGEST_MARKDOWN:
        sections[2] = "Each attack: see the nested runs."
        text = "\n\n".join(section for section in sections if section)
    return text


def _head(card: ModelCard) -> str:
    verdict, model = card.verdict, card.model
    outcome = "passed its gate" if verdict.passed else "FAILED its gate"
    changed = " with uncommitted changes" if verdict.uncommitted_changes else ""
    times = f"issued {verdict.issued_at:%Y-%m-%d %H:%M}, expires {verdict.expires_at:%Y-%m-%d %H:%M} UTC"
    rows = [
        ("verdict", f"`{verdict.id}`, {times}"),
        ("model", f"`{model.digest}`"),
        ("network", f"{model.architecture}, {model.image_size} pixels a side, defence: {model.defence}"),
        ("labels", ", ".join(model.labels)),
        ("data", f"`{card.data.version}`"),
        ("code", f"`{verdict.commit or 'not in git'}`{changed}"),
        ("clean accuracy", _percent(card.clean.accuracy)),
        ("malignant recall", _percent(card.clean.malignant_recall)),
    ]
    parts = (f"## {model.name}: {outcome}", _table(("", ""), rows), _bullets("Why it failed", verdict.reasons))
    return "\n\n".join(part for part in parts if part)


def _under_attack(card: ModelCard) -> str:
    rows = [
        (f"{row.epsilon_255}/255", _percent(row.robust_accuracy), _percent(row.sensitivity), _percent(row.specificity))
        for row in card.worst_case
    ]
    titles = ("worst case up to", "robust accuracy", "sensitivity", "specificity")
    return f"### Under attack\n\n{_table(titles, rows)}" if rows else ""


def _each_attack(card: ModelCard) -> str:
    rows = [(each.name, f"{each.epsilon_255}/255", _percent(each.robust_accuracy)) for each in card.attacks]
    return _table(("attack", "radius", "robust accuracy"), rows) if rows else ""


def _table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [titles, ("---",) * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bullets(title: str, lines: list[str]) -> str:
    return "\n".join([f"### {title}", "", *(f"- {line}" for line in lines)]) if lines else ""


def _percent(rate: Rate | None) -> str:
    return f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%})" if rate else "not measured"
