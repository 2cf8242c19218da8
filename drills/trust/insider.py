"""Whoever has one key: that of the verdicts, that of the promotions, or an API key; and can write the registry."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx

from benchmarks import load
from buckler.release import signing
from buckler.release.restate import restate
from buckler.serving.registry import PROMOTION_TAG, STANDING_TAG
from buckler.trust import promotion, standing
from buckler.trust.promotion import PromotionRecord
from buckler.trust.public_keys import PublicKeys
from buckler.trust.standing import Claim
from buckler.trust.verdict import open_release
from drills.registry import NAME
from drills.report import Drill
from drills.scene import DrillScene
from drills.service import RunningService, wait_until
from drills.trust.approvals import approvals
from drills.trust.stage import (
    PATIENCE,
    PICTURES,
    REGISTRY,
    Stage,
    answered,
    client,
    observing,
    set_alias,
    stage,
)

DEGRADED = Claim("degraded", "flagged ratio 0.4 > 0.1")


def insider(scene: DrillScene, drill: Drill) -> None:
    """One key does what its role allows, and nothing that needs another one."""
    with stage(scene, drill) as trust:
        champion = trust.champion()
        path = scene.builder.build(worse=True)
        worse = scene.registry.register(path)
        with scene.service() as service, observing(service) as observer:
            _verdict_key(trust, service, champion, worse)
            _promotion_key(trust, service)
            trust.signs("rollback")
            observer.wait(4)
            # The promotion key, and the signer's machine or its journal: no comparison.
            scene.registry.sign_promotion(worse, open_release(path, scene.registry.trusted.verdict))
            observer.wait_for(worse)
            trust.record("promotes a version that loses the comparison, with the promotion key", "", "it serves")
        answered(drill, observer, (champion, worse))
        _api_keys(trust)
        approvals(trust)


# --- signing keys


def _verdict_key(trust: Stage, service: RunningService, champion: str, worse: str) -> None:
    """Sign a promotion, and the end of a claim, with the key of the verdicts."""
    key, registry = trust.scene.builder.key, trust.scene.registry.model
    entry = registry.version(worse)
    number = signing.shown(registry).highest + 1
    record = PromotionRecord(NAME, worse, entry.digest, entry.verdict, datetime.now(UTC), REGISTRY, number)
    text = promotion.issue(record, key)

    def promote() -> None:
        client().set_model_version_tag(NAME, worse, PROMOTION_TAG, text)
        client().set_registered_model_tag(NAME, PROMOTION_TAG, text)
        set_alias(worse)

    trust.service_refuses(service, "signs a promotion with the verdict key", promote, "not_promoted")
    trust.signs("rollback")
    attack = "the same, before the signer is asked to promote it"
    trust.signer_refuses(attack, "promote", "--version", worse, says="significantly below")
    claimed = restate(registry, champion, "drift", DEGRADED)
    lifted = standing.issue(replace(claimed.claimed("drift", None), sequence=claimed.sequence + 1), key)
    lift = partial(client().set_model_version_tag, NAME, champion, STANDING_TAG, lifted)
    trust.service_refuses(service, "lifts a claim with the verdict key", lift, "standing")
    trust.signs("champion", "--lift", "drift", "--version", champion)


def _promotion_key(trust: Stage, service: RunningService) -> None:
    """Sign a verdict with the key of the promotions, and the promotion too."""
    key, registry = trust.scene.builder.promotion_key, trust.scene.registry
    own = PublicKeys.of(key.public_key())
    path = trust.scene.builder.build(key=key)
    version = registry.register(path, signed_with=own)
    says = "with a key of another role"
    attack = "signs a verdict with the promotion key, before the promotion"
    trust.signer_refuses(attack, "promote", "--version", version, says=says)
    promote = partial(registry.sign_promotion, version, open_release(path, own))
    attack = "signs a verdict and its promotion with the promotion key"
    trust.service_refuses(service, attack, promote, "signature")


# --- API keys


def _api_keys(trust: Stage) -> None:
    ring = trust.scene.directory / "api.json"
    predict, operate = (_create(trust, ring, role) for role in ("predict", "operate"))
    env = {"BUCKLER_REQUIRE_KEYS": "always", "BUCKLER_API_KEYS": str(ring)}
    with trust.scene.service(env, name="keyed") as service:
        _roles(trust, service, predict, operate)
        _revoked(trust, service, ring)


def _create(trust: Stage, ring: Path, role: str, name: str = "ward-3") -> str:
    return trust.signs("keys", "create", "--role", role, "--name", name, "--file", str(ring)).strip()


def _ask(service: RunningService, path: str, key: str = "") -> tuple[int, str]:
    """Send a picture, or read a page; return status and error code."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    if path == "/predict":
        media_type, body = load.form(PICTURES[0], "image/png")
        answer = httpx.post(service.url + path, content=body, headers={**headers, "content-type": media_type})
    else:
        answer = httpx.get(service.url + path, headers=headers)
    return answer.status_code, "" if answer.is_success else answer.json()["error"]["code"]


def _roles(trust: Stage, service: RunningService, predict: str, operate: str) -> None:
    asked = {
        "sends a picture without a key": ("/predict", "", (401, "key_missing")),
        "sends a picture with a key that reads metrics": ("/predict", operate, (403, "role_forbidden")),
        "reads metrics with a key that sends pictures": ("/metrics", predict, (403, "role_forbidden")),
        "guesses a key": ("/predict", predict[:-4] + "AAAA", (401, "key_unknown")),
    }
    for name, (path, key, expected) in asked.items():
        found = _ask(service, path, key)
        refusal = "{} {}".format(*expected)
        trust.expect(name, "service", refusal, found == expected, f"expected {expected}, got {found}")


def _revoked(trust: Stage, service: RunningService, ring: Path) -> None:
    key = _create(trust, ring, "predict", "stolen")
    wait_until(lambda: _ask(service, "/predict", key)[0] == 200, PATIENCE, "the new key to be accepted")
    listed = trust.signs("keys", "list", "--file", str(ring)).splitlines()
    (number,) = [line.split()[0] for line in listed if " stolen " in line]
    trust.signs("keys", "revoke", number, "--file", str(ring))
    began = time.monotonic()
    wait_until(
        lambda: _ask(service, "/predict", key) == (401, "key_unknown"), PATIENCE, "the revoked key to be refused"
    )
    trust.record("uses a stolen key after it was revoked", "service", "401 key_unknown", time.monotonic() - began)
