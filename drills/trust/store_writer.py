"""Whoever can write the artifact store: the files of every release, but no entry of the registry."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from buckler.serving.registry import RELEASE_DIR
from buckler.trust.verdict import MODEL_DIR, open_release
from drills.registry import NAME
from drills.releases import flip_a_byte, truncate_the_weights
from drills.report import Drill
from drills.scene import DrillScene
from drills.service import RunningService, wait_until
from drills.trust.stage import PATIENCE, Observer, Stage, answered, client, observing, stage

SCHEME = "mlflow-artifacts:/"

Harm = Callable[[Path], object]


def store_writer(scene: DrillScene, drill: Drill) -> None:
    """Changed files are promoted by nobody and loaded by nobody; a roll-back and new promotions are not blocked."""
    with stage(scene, drill) as trust:
        first = trust.champion()
        with scene.service(workers=2) as service, observing(service) as observer:
            harms: dict[str, Harm] = {
                "changes a byte of the weights": flip_a_byte,
                "truncates the weights": truncate_the_weights,
                "adds an unknown file": add_a_file,
                "replaces model/ by a link to other files": link_elsewhere,
            }
            for name, harm in harms.items():
                _harmed(trust, service, name, harm)
            _swapped(trust, service)
            _rolled_back(trust, observer, first)
            last = _deleted(trust, service, observer, first)
        answered(drill, observer, (first, last), lost=1)


def place_of(trust: Stage, version: str) -> Path:
    """Return the directory of a version's release in the artifact store."""
    uri = client().get_model_version_download_uri(NAME, version)
    if not uri.startswith(SCHEME):
        raise ValueError(f"expected an address {SCHEME}…, got {uri}")
    place: Path = trust.artifacts / uri.removeprefix(SCHEME).strip("/") / "data" / RELEASE_DIR
    return place


def add_a_file(release: Path) -> None:
    """Add a file that nobody signed."""
    (release / "sitecustomize.py").write_text("raise SystemExit\n", encoding="utf-8")


def link_elsewhere(release: Path) -> None:
    """Replace the model's directory by a link to a changed copy of it."""
    elsewhere = release.parent.parent / "elsewhere"
    (release / MODEL_DIR).rename(elsewhere)
    (release / MODEL_DIR).symlink_to(elsewhere)
    flip_a_byte(release)


def _harmed(trust: Stage, service: RunningService, name: str, harm: Harm) -> None:
    """Harm one release before its promotion, which the signer refuses, and as if after it, which the service does."""
    registry = trust.scene.registry
    path = trust.scene.builder.build()
    signed = open_release(path, registry.trusted.verdict)
    version = registry.register(path)
    harm(place_of(trust, version))
    says = "find who changed the files"
    trust.signer_refuses(f"{name}, before the promotion", "promote", "--version", version, says=says)
    trust.service_refuses(
        service, f"{name}, after the promotion", lambda: registry.sign_promotion(version, signed), "digest"
    )


def _swapped(trust: Stage, service: RunningService) -> None:
    """Put two signed releases in each other's place."""
    registry, paths = trust.scene.registry, [trust.scene.builder.build() for _ in range(2)]
    signed = open_release(paths[0], registry.trusted.verdict)
    versions = [registry.register(path) for path in paths]
    one, other = (place_of(trust, version) for version in versions)
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    trust.service_refuses(
        service,
        "swaps two signed releases, after the promotion",
        lambda: registry.sign_promotion(versions[0], signed),
        "not_promoted",
    )


def _rolled_back(trust: Stage, observer: Observer, first: str) -> None:
    """The champion and the four champions before it are broken: the roll-back passes over them and names them."""
    trust.signs("rollback")
    version = trust.scene.registry.champion()
    trust.expect(
        "has broken every champion since, before a roll-back",
        "signer",
        f"goes to version {version}",
        version == first,
        f"expected a roll-back to version {first}, got version {version}",
    )
    observer.wait(4)


def _deleted(trust: Stage, service: RunningService, observer: Observer, first: str) -> str:
    """Delete the champion's files: a restarted worker serves its copy, and another version can be promoted."""
    shutil.rmtree(place_of(trust, first).parent.parent)
    worker, ready, failed = service.workers()[0], service.ready_workers(), observer.failed
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: service.ready_workers() > ready, PATIENCE, "a new worker to start")
    observer.wait(8)
    lost = observer.failed - failed
    trust.expect(
        "deletes the champion's files, and a worker is killed",
        "service",
        "serves its verified copy",
        lost <= 1 and observer.last_version() == first,
        f"{lost} requests failed, version {observer.last_version()} answers",
    )
    worse = trust.scene.registry.register(trust.scene.builder.build(worse=True))
    attack = "deletes the champion's files before the promotion of a worse version"
    trust.signer_refuses(attack, "promote", "--version", worse, says="significantly below")
    good = trust.champion()
    observer.wait_for(good)
    return good
