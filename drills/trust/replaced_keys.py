"""The key of promotions is replaced, stolen and lost while the service answers."""

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from buckler.release.restate import restate
from buckler.serving.registry import HEAD_TAG, PROMOTION_TAG, STANDING_TAG
from buckler.trust import promotion, standing
from buckler.trust.keys import PROMOTIONS, load_private_key, load_public_keys
from buckler.trust.promotion import PromotionRecord
from buckler.trust.signing_key import SigningKey
from buckler.trust.standing import Claim, Standing
from drills.registry import NAME
from drills.report import Drill
from drills.scene import DrillScene
from drills.service import RunningService
from drills.trust.stage import REGISTRY, Observer, Stage, answered, client, observing, refusals, set_alias, stage

WITHDRAWN = Claim("withdrawn", "robust accuracy 0.1 < 0.3")
THIEFS_NUMBER = 900  # of the records that the thief signs; far above the signer's
FOR = ("--for", PROMOTIONS.name)


def replaced_keys(scene: DrillScene, drill: Drill) -> None:
    """No step of a replacement stops the service, and what a thief signed ends with it; withdrawals remain."""
    with stage(scene, drill) as trust:
        good, weak = trust.champion(), trust.champion()
        withdrawn = restate(scene.registry.model, weak, "drift", WITHDRAWN)
        trust.signs("rollback")
        given = scene.directory / "promotion.pub"  # the service's own copy

        def give() -> None:
            shutil.copyfile(scene.registry.root / PROMOTIONS.public_file, given)

        give()
        with scene.service({PROMOTIONS.public_env: str(given)}) as service, observing(service) as observer:
            _replaced(trust, service, observer, give)
            _stolen(trust, observer, withdrawn, good, give)
            last = _lost(trust, observer, give)
        answered(drill, observer, (good, weak, last))


def _replaced(trust: Stage, service: RunningService, observer: Observer, give: Callable[[], None]) -> None:
    """Replace the key in three steps; between them the service checks several times."""
    before = refusals(service)

    def give_and_wait() -> None:
        give()
        observer.wait(30)

    _replace(trust, give_and_wait)
    refused = sum(refusals(service).values()) - sum(before.values())
    trust.drill.figures["refused while the key was replaced"] = int(refused)
    trust.drill.require(refused == 0, f"{refused} refusals while the key was replaced in three steps")


def _replace(trust: Stage, give: Callable[[], None]) -> None:
    """Trust a new key, sign with it, trust the old one no more; give the service the public keys twice."""
    public = trust.scene.registry.root / PROMOTIONS.public_file
    (old,) = load_public_keys(public).ids
    trust.signs("keys", "rotate", *FOR)
    give()
    trust.signs("keys", "rotate", *FOR, "--to", load_public_keys(public).ids[-1])
    trust.signs("keys", "retire", old, *FOR)
    give()


def _stolen(trust: Stage, observer: Observer, withdrawn: Standing, good: str, give: Callable[[], None]) -> None:
    """Promote a withdrawn version with the stolen key, until the key is replaced."""
    weak, began = withdrawn.version, time.monotonic()
    _steal(load_private_key(_private(trust)), withdrawn)
    observer.wait_for(weak)
    attack = "lifts a withdrawal and promotes the version with a stolen promotion key"
    trust.record(attack, "", "it serves", time.monotonic() - began)
    trust.signer_refuses("the same, before the next signature", "rollback", says=f"lacks records {THIEFS_NUMBER}")
    _replace(trust, lambda: None)  # as docs/how-to/keys.md says: services get the new key alone, and last
    give()
    began = time.monotonic()
    observer.wait_for(good)
    trust.record("the same, once the key is replaced", "service", "the champion serves", time.monotonic() - began)
    attack = "promotes the withdrawn version after that"
    trust.signer_refuses(attack, "promote", "--version", weak, says="is withdrawn")


def _steal(key: SigningKey, withdrawn: Standing) -> None:
    version = withdrawn.version
    record = PromotionRecord(
        NAME, version, withdrawn.digest, withdrawn.verdict, datetime.now(UTC), REGISTRY, THIEFS_NUMBER
    )
    promoted = promotion.issue(record, key)
    lifted = standing.issue(replace(withdrawn, claims={}, sequence=THIEFS_NUMBER + 1), key)
    client().set_model_version_tag(NAME, version, STANDING_TAG, lifted)
    client().set_model_version_tag(NAME, version, PROMOTION_TAG, promoted)
    client().set_registered_model_tag(NAME, PROMOTION_TAG, promoted)
    client().set_registered_model_tag(NAME, HEAD_TAG, lifted)
    set_alias(version)


def _lost(trust: Stage, observer: Observer, give: Callable[[], None]) -> str:
    """Lose the private key, make a new one and promote a version with it; return the version."""
    _private(trust).unlink()
    version = trust.scene.publish()
    trust.signer_refuses("deletes the private key before a promotion", "promote", "--version", version, says="cannot")
    _replace(trust, give)
    trust.signs("promote", "--version", version)
    began = time.monotonic()
    observer.wait_for(version)
    figure = "seconds to a version that was promoted with a new key"
    trust.drill.figures[figure] = round(time.monotonic() - began, 1)
    return version


def _private(trust: Stage) -> Path:
    return trust.scene.registry.root / PROMOTIONS.private_file
