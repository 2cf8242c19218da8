"""Job ``probe``: sends clean and attacked pictures to the service's REST API and compares it with the release off-line.

Reads   params.yaml, the service, the live model's release, data/splits/test.csv and its pictures;
        models/surrogate/ if probe.crafted_on names it
Writes  .buckler/watch/probe.json
Keeps   .buckler/downloads/: that release; .buckler/watch/probe/: the pictures that were crafted on it

An outside attacker has only this interface. Transfer pictures are crafted off-line; Square queries the service a
bounded number of times, and the service should detect the search. The service stores fingerprints of pictures for an
hour, so Square starts from pictures that the probe does not send otherwise: its queries must not be near-duplicates of
the clean and the transfer pictures.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, Field

from buckler import params
from buckler.client import Answer, Client, ServiceError
from buckler.data import pictures
from buckler.data.pictures import Pictures
from buckler.detection.reasons import Reason
from buckler.error_codes import ErrorCode
from buckler.errors import BucklerError, DataError
from buckler.modality.base import Modality, RadiusUnit
from buckler.params import Count, Seed, Share, Whole
from buckler.radius import StatedRadius
from buckler.release.settings import PublishParams
from buckler.serving import release_cache
from buckler.serving.assessment import OpenedRelease
from buckler.serving.predictor import Predictor
from buckler.serving.registry import Registry
from buckler.state import files, paths
from buckler.state.locations import Location
from buckler.trust import digests
from buckler.trust.verdict import MODEL_DIR
from buckler.watch.settings import WatchParams
from buckler.watch.state import write_state
from buckler.watch.table import Finding

JOB = "probe"
TEST = Path("data/splits/test.csv")
SURROGATE = Path("models/surrogate")
SUSPECT = {Reason.ADVERSARIAL, Reason.QUERY_ATTACK}
CLEAN, TRANSFER, SQUARE = "clean", "transfer", "square"
SMALLEST_SHARE = 1e-12
BATCH_SIZE = 32
CANDIDATES = 10  # test pictures from which each of Square's is chosen


@dataclass(frozen=True, slots=True)
class TransferParams:
    """The attack whose pictures are crafted off-line."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    attack: str
    radius: StatedRadius
    steps: Count


@dataclass(frozen=True, slots=True)
class ProbeParams:
    """Section ``probe`` of params.yaml.

    Attributes:
        records: Clean test pictures, and as many attacked by transfer.
        square_records: Number of other pictures from which Square starts.
        queries: Number of Square's queries for each of them.
        transfer: The attack that crafts the transfer pictures.
        crafted_on: ``release``: the live model's reference; ``surrogate``: another model, ``models/surrogate``.
        square_radius: Square's radius.
        seed: Seed of the choice and of the attacks.
        min_parity: Minimum share of pictures with the same label as off-line.
        max_probability_gap: Maximum of the mean, over pictures, of the largest probability difference to off-line.
        max_flagged: Kind of pictures -> maximum share flagged as adversarial.
        min_flagged: Kind of pictures -> minimum share flagged as adversarial.
        min_robust_accuracy: Attack -> minimum robust accuracy.
    """

    records: Annotated[Count, Field(le=100_000)]
    square_records: Annotated[Whole, Field(le=100_000)]
    queries: Annotated[Count, Field(le=1_000_000)]
    transfer: TransferParams
    crafted_on: Literal["release", "surrogate"]
    square_radius: StatedRadius
    seed: Seed
    min_parity: Annotated[Share, Field(gt=0)]
    max_probability_gap: Annotated[Share, Field(lt=1)]
    max_flagged: Mapping[Literal["clean"], Share]
    min_flagged: Mapping[Literal["transfer", "square"], Share]
    min_robust_accuracy: Mapping[Literal["transfer", "square"], Share]


@dataclass(slots=True)
class Endpoint:
    """The service as an attacker sees it, from inputs to probabilities; notes which pictures were flagged.

    Attributes:
        client: Client of the service.
        labels: Labels in the order of the columns.
        digest: Digest of the model that must answer.
        modality: Of its inputs.
        flagged: For each picture sent, whether the detector or the query monitor flagged it.
    """

    client: Client
    labels: Sequence[str]
    digest: str
    modality: Modality
    flagged: list[bool] = field(default_factory=list)

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Return log-probabilities ``(batch, classes)``."""
        return np.log(np.maximum([self.shares(picture) for picture in batch], SMALLEST_SHARE)).astype(np.float32)

    def shares(self, picture: np.ndarray) -> list[float]:
        """Return the probabilities of one input, in 0..1.

        Raises:
            BucklerError: Another model answers.
        """
        try:
            answer = self.client.predict(self.modality.to_file(picture))
        except ServiceError as error:
            if error.code == ErrorCode.QUERY_ATTACK:
                # Rejected as part of a query attack, hence detected. The search receives an uninformative answer.
                self.flagged.append(True)
                return [1 / len(self.labels)] * len(self.labels)
            raise
        self._check(answer)
        self.flagged.append(not SUSPECT.isdisjoint(answer.reasons))
        return [answer.probabilities[label] for label in self.labels]

    def _check(self, answer: Answer) -> None:
        if answer.model.digest != self.digest:
            raise BucklerError("the service changed its model during the probe; the next run tries again")


def run() -> Finding:
    """Probe the service as configured in params.yaml, report, and return whether it meets the requirements."""
    watching, cfg = params.load("watch", WatchParams), params.load(JOB, ProbeParams)
    name = params.load("publish", PublishParams).model_name
    with Client(watching.address, **watching.as_client()) as client:
        card = client.model_card()
        with release_cache.reported(card, Registry(name)) as release:
            offline = Predictor.of(release.files / MODEL_DIR, release.require())
            sent, searched = choose(cfg, offline)
            attacked = crafted(cfg, release, sent, offline.form.modality.unit)
        labels, digest = card["model"]["labels"], card["model"]["digest"]
        kinds, modality = (CLEAN, TRANSFER, SQUARE), offline.form.modality
        endpoints = {kind: Endpoint(client, labels, digest, modality) for kind in kinds}
        clean, transferred = (
            np.array([endpoints[kind].shares(picture) for picture in batch])
            for kind, batch in ((CLEAN, sent.images), (TRANSFER, attacked))
        )
        robust = {
            TRANSFER: _right_in_both(clean, transferred, sent.truth),
            SQUARE: search(endpoints[SQUARE], searched, cfg),
        }
    expected = np.array([_offline(offline, picture) for picture in np.concatenate([sent.images, attacked])])
    served = np.concatenate([clean, transferred])
    state: dict[str, Any] = {
        "schema": 1,
        "finished_at": datetime.now(UTC).isoformat(),
        "version": card["model"]["version"],
        "digest": digest,
        "pictures": len(sent.ids),
        "queries": len(endpoints[SQUARE].flagged),
        "parity_ratio": float((expected.argmax(axis=1) == served.argmax(axis=1)).mean()),
        "probability_gap": float(np.abs(expected - served).max(axis=1).mean()),
        "flagged_ratio": {kind: float(np.mean(each.flagged)) for kind, each in endpoints.items()},
        "robust_accuracy": {attack: float(np.mean(right)) for attack, right in robust.items()},
    }
    reasons = violations(state, cfg)
    write_state(JOB, {**state, "passed": not reasons, "reasons": reasons})
    what = f"version {state['version']}, {len(sent.ids)} pictures, {state['queries']} queries of Square"
    return Finding(not reasons, f"{what}: {'; '.join(reasons) or 'passed'}", version=state["version"])


def choose(cfg: ProbeParams, offline: Predictor) -> tuple[Pictures, Pictures]:
    """Return the pictures to send and the other pictures from which Square starts.

    Raises:
        DataError: There are too few pictures.
    """
    everything = pictures.load(TEST, offline.labels, offline.form)
    needed = cfg.records + cfg.square_records
    if len(everything.ids) < needed:
        raise DataError(f"expected at least {needed} test pictures, {TEST} lists {len(everything.ids)}")
    drawn = np.random.default_rng(cfg.seed).permutation(len(everything.ids))

    def is_wrong(place: int) -> bool:
        return bool(offline(everything.images[place]).label != offline.labels[everything.truth[place]])

    # A misclassified picture needs no search: choose correctly classified ones first.
    others = sorted(drawn[cfg.records : cfg.records + CANDIDATES * cfg.square_records], key=is_wrong)
    parts = (np.sort(drawn[: cfg.records]), np.sort(others[: cfg.square_records]))
    sent, searched = (
        Pictures(tuple(everything.ids[i] for i in part), everything.images[part], everything.truth[part])
        for part in parts
    )
    return sent, searched


def crafted(cfg: ProbeParams, release: OpenedRelease, sent: Pictures, unit: RadiusUnit) -> np.ndarray:
    """Return ``sent`` after the transfer attack, in 0..1 on the grid of ``unit``; stored for the next probe."""
    source: Location = SURROGATE
    if cfg.crafted_on == "release":
        source, digest = release.files / MODEL_DIR, release.require().subject_digest
    else:
        digest = digests.directory_digest(SURROGATE)
    about = {"source": digest, "ids": sent.ids_digest, "seed": cfg.seed}
    question = json.dumps(
        {**about, **asdict(cfg.transfer), "shape": sent.images.shape},
        sort_keys=True,
    )
    kept = paths.WATCH_PROBE / f"{hashlib.sha256(question.encode()).hexdigest()}.npy"
    if kept.exists():
        return unit.values_of(np.load(kept))
    found = _craft(cfg, source, sent, unit)
    paths.WATCH_PROBE.mkdir(parents=True, exist_ok=True)
    for old in paths.WATCH_PROBE.glob("*.npy"):
        old.unlink()
    with files.replacing(kept) as aside:
        np.save(aside, unit.steps_of(found))
    return found


def _craft(cfg: ProbeParams, source: Location, sent: Pictures, unit: RadiusUnit) -> np.ndarray:
    from buckler.attacks.base import Batch
    from buckler.attacks.black_box import transfer
    from buckler.attacks.table import build
    from buckler.compute.machine import crafting_precision
    from buckler.models import restored
    from buckler.models.checkpoint import load_info, load_network
    from buckler.models.classifier import Classifier

    how = cfg.transfer
    network = Classifier(load_network(source), crafting_precision(), batch_size=BATCH_SIZE)
    surrogate = restored.behind(restored.step_of(load_info(source), source), network)
    (found,) = transfer(
        build(how.attack).adjusted(steps=how.steps),
        surrogate,
        lambda batch: np.zeros(len(batch), np.int64),  # the service answers later
        Batch(sent.images, sent.truth, seed=cfg.seed),
        [unit.radius(how.radius)],
    )
    return np.asarray(found.adversarial)


def search(endpoint: Endpoint, searched: Pictures, cfg: ProbeParams) -> list[bool]:
    """Return for each picture whether it is right both clean and after Square's search at ``endpoint``."""
    from buckler.attacks.base import Batch, ScoresOnly
    from buckler.attacks.square import Square

    # Two queries less: one for the clean picture, one more for the best picture found. No early exit, because a search
    # that succeeded at once could not be detected.
    square = Square(queries=max(1, cfg.queries - 2), early_exit=False)
    radius = endpoint.modality.unit.radius(cfg.square_radius)
    robust = []
    for image, truth in zip(searched.images, searched.truth, strict=True):
        right = int(endpoint(image[None])[0].argmax()) == int(truth)
        if right:
            best = square(ScoresOnly(endpoint), Batch(image[None], np.array([truth]), seed=cfg.seed), radius)
            right = int(endpoint(best)[0].argmax()) == int(truth)
        robust.append(right)
    return robust


def violations(state: Mapping[str, Any], cfg: ProbeParams) -> list[str]:
    """Return the requirements that the service violates; empty if it meets all."""
    reasons = []
    if not state["parity_ratio"] >= cfg.min_parity:
        reasons.append(f"parity with the release off-line {state['parity_ratio']:.3f} < {cfg.min_parity:g}")
    if not state["probability_gap"] <= cfg.max_probability_gap:
        reasons.append(f"probability gap {state['probability_gap']:.4f} > {cfg.max_probability_gap:g}")
    flagged, robust = state["flagged_ratio"], state["robust_accuracy"]
    for kind, ceiling in cfg.max_flagged.items():
        if not flagged[kind] <= ceiling:
            reasons.append(f"flagged of {kind} pictures {flagged[kind]:.3f} > {ceiling:g}")
    for attacked, floor in cfg.min_flagged.items():
        if not flagged[attacked] >= floor:
            reasons.append(f"flagged of {attacked} pictures {flagged[attacked]:.3f} < {floor:g}")
    for name, floor in cfg.min_robust_accuracy.items():
        if not robust[name] >= floor:
            reasons.append(f"robust accuracy under {name} {robust[name]:.3f} < {floor:g}")
    return reasons


def _right_in_both(clean: np.ndarray, attacked: np.ndarray, truth: np.ndarray) -> list[bool]:
    right = (clean.argmax(axis=1) == truth) & (attacked.argmax(axis=1) == truth)
    return [bool(each) for each in right]


def _offline(predictor: Predictor, picture: np.ndarray) -> list[float]:
    answer = predictor(picture)
    return [answer.probabilities[label] for label in predictor.labels]
