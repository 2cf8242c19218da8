"""Job ``canary``: sends reference pictures to the service's REST API and compares the answers with the expected ones.

Reads   params.yaml, the service, the reference pictures of the live model's release
Writes  .buckler/watch/canary.json, .buckler/watch/champion.json: the standing of the live model
Keeps   .buckler/downloads/: that release

The release contains these pictures and the expected answers; the service uses the same ones for its self-test when it
loads a model. The job fails if the service answers differently.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field

from buckler import params
from buckler.client import Client
from buckler.errors import BucklerError
from buckler.models.info import load_info
from buckler.params import Count, Share
from buckler.release.settings import PublishParams
from buckler.serving import release_cache, selftest
from buckler.serving.registry import Registry
from buckler.trust import verdict
from buckler.watch.settings import WatchParams
from buckler.watch.state import note_champion, write_state
from buckler.watch.table import Finding

JOB = "canary"
TIMEOUT_SECONDS = 10.0
TRIES = 3  # to have all pictures answered by the same model


@dataclass(frozen=True, slots=True)
class CanaryParams:
    """Section ``canary`` of params.yaml.

    Attributes:
        records: Number of the release's reference pictures.
        min_right: Minimum share with the expected answer.
    """

    records: Count
    min_right: Annotated[Share, Field(gt=0)]


def run() -> Finding:
    """Send the reference pictures to the service and return whether it answered as required."""
    watching, cfg = params.load("watch", WatchParams), params.load(JOB, CanaryParams)
    name = params.load("publish", PublishParams).model_name
    with Client(watching.address, timeout=TIMEOUT_SECONDS, retries=1, **watching.as_client()) as service:
        for _ in range(TRIES):
            card = service.model_card()
            note_standing(card)
            found = ask(service, card, name, cfg.records)
            if found is not None:
                return _judge(card, found, cfg)
    raise BucklerError(f"the service changed its model {TRIES} times during the run; the next run tries again")


def note_standing(card: Mapping[str, Any]) -> None:
    """Store the live model's standing from its card for the exporter."""
    standing = card["standing"]
    note_champion(
        card["model"]["version"],
        issued_at=datetime.fromisoformat(standing["issued_at"]),
        expires_at=datetime.fromisoformat(standing["expires_at"]),
        state=standing["state"],
        reasons=standing["reasons"],
    )


def ask(service: Client, card: Mapping[str, Any], name: str, count: int) -> tuple[list[bool], list[float]] | None:
    """Return for each reference picture whether its answer was the expected one, and its latency in seconds.

    Returns:
        None if a model other than the one of ``card`` answered.
    """
    right, seconds = [], []
    with release_cache.reported(card, Registry(name)) as release:
        model = release.files / verdict.MODEL_DIR
        modality = load_info(model).form.modality
        for place, steps in enumerate(selftest.reference_pictures(model)[:count]):
            file = modality.to_file(modality.unit.values_of(steps))
            began = time.perf_counter()
            answer = service.predict(file)
            seconds.append(time.perf_counter() - began)
            if answer.model.digest != card["model"]["digest"]:
                return None
            shares = [answer.probabilities[label] for label in card["model"]["labels"]]
            right.append(selftest.is_known(model, shares, place))
    return right, seconds


def _judge(card: Mapping[str, Any], found: tuple[list[bool], list[float]], cfg: CanaryParams) -> Finding:
    right, seconds = found
    ratio, version = sum(right) / len(right), card["model"]["version"]
    state = {
        "schema": 1,
        "finished_at": datetime.now(UTC).isoformat(),
        "version": version,
        "digest": card["model"]["digest"],
        "pictures": len(right),
        "right_ratio": ratio,
        "seconds": round(sum(seconds) / len(seconds), 4),
        "passed": ratio >= cfg.min_right,
    }
    write_state(JOB, state)
    message = f"version {version}: {sum(right)} of {len(right)} reference pictures have the expected answers"
    return Finding(ratio >= cfg.min_right, message, version=version)
