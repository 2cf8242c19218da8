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


class CardRate(BaseModel):
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float
    pictures: int | None = Field(default=None, description="Number of pictures")


class CardModel(BaseModel):
    """The model itself."""

    name: str
    version: str
    digest: str = Field(description="SHA-256 of the model directory")
    architecture: str
    defence: str = Field(description="Defence in training")
    labels: list[str]
    malignant: list[str] = Field(description="Labels that it is dangerous to miss")
    image_size: int = Field(description="Side length of the model's input, in pixels")


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

    accuracy: CardRate | None
    malignant_recall: CardRate | None
    calibration_error: float | None


class CardRobust(BaseModel):
    """Performance under the worst of all attacks at all radii up to this one."""

    epsilon_255: int = Field(description="Largest change of a pixel, in levels of 255")
    robust_accuracy: CardRate
    sensitivity: CardRate | None = None
    specificity: CardRate | None = None
    malignant_to_benign_rate: CardRate | None = None


class CardAttack(BaseModel):
    """One attack at one radius."""

    name: str
    knowledge: str | None = Field(default=None, description="What the attacker knows of the model")
    norm: str | None = None
    epsilon_255: int | None = None
    steps: int | None = None
    robust_accuracy: CardRate
    attack_success_rate: float | None = None


class CardGroup(BaseModel):
    """A subgroup of the pictures."""

    column: str
    group: str
    pictures: int
    clean_accuracy: CardRate
    worst_case: list[CardRobust]


class CardCheck(BaseModel):
    """One sanity check of the evaluation."""

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
    flagged: CardRate | None = Field(default=None, description="Share of attacked pictures above the threshold")
    wrong_and_unflagged: CardRate | None = Field(
        default=None, description="Share of attacked pictures with a wrong label and no flag"
    )


class CardDetector(BaseModel):
    """The adversarial-input detector."""

    threshold: float
    max_fpr: float = Field(description="Largest share of clean pictures that the threshold may flag")
    clean_fpr: CardRate | None = Field(description="Share of clean test pictures above the threshold")
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
    floors: dict[str, Any] = Field(description="The policy of the gate")
    detector: CardDetector | None
    limits: list[str] = Field(description="Limits of the model")


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
    measured = verdict.measured
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
        "data": {"version": info.data_version, "pictures_attacked": measured.get("data", {}).get("images")},
        "verdict": {**_verdict(verdict), "expired": now >= expires_at},
        "standing": {
            "state": standing.state if standing else HOLDS,
            "reasons": list(standing.reasons) if standing else [],
            "issued_at": standing.issued_at if standing else verdict.issued_at,
            "expires_at": expires_at,
            "moment": standing.moment if standing else verdict.issued_at,
        },
        "clean": {
            "accuracy": measured.get("clean_accuracy"),
            "malignant_recall": measured.get("malignant_recall"),
            "calibration_error": measured.get("calibration_error"),
        },
        "worst_case": measured.get("worst_case", []),
        "attacks": measured.get("attacks", []),
        "subgroups": measured.get("subgroups", []),
        "checks": measured.get("checks", []),
        "floors": dict(verdict.policy),
        "detector": measured.get("detector"),
        "limits": _limits(measured, info, verdict, expires_at),
    }
    return ModelCard.model_validate(content)


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "id": verdict.id,
        "passed": verdict.passed,
        "reasons": list(verdict.reasons),
        "notes": list(verdict.notes),
        "issued_at": verdict.issued_at,
        "expires_at": verdict.expires_at,
        "commit": verdict.source.commit,
        "uncommitted_changes": verdict.source.dirty,
    }


def _limits(measured: Mapping[str, Any], info: "ModelInfo", verdict: Verdict, expires_at: datetime) -> list[str]:
    radius = max((row["epsilon_255"] for row in measured.get("worst_case", [])), default=0)
    labels = ", ".join(info.labels)
    limits = [
        "It supports a person's decision and does not replace it: it sees one picture and nothing else of the patient.",
        f"It knows only the labels {labels}: a picture of anything else gets one of these labels too.",
        f"Measured on the pictures of data version {info.data_version}; the results do not apply to cameras, skins or"
        " populations that are not among them.",
        f"Attacked with changes of at most {radius}/255 per pixel; the results do not apply to larger changes, patches,"
        " manual edits, or changes of the skin or the camera."
        if radius
        else "Its robustness is unknown: the verdict contains no worst case.",
        "A picture that the detector calls clean may still be attacked, above all by someone who knows the detector.",
        f"The verdict is valid until {expires_at:%Y-%m-%d %H:%M} UTC; after that, every answer needs review.",
    ]
    if info.defence == "none":
        limits.insert(3, "It was trained without a defence against attacks.")
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


def _percent(rate: CardRate | None) -> str:
    return f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%})" if rate else "not measured"
