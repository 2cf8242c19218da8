"""Whoever can write the service's own directory (`BUCKLER_RELEASES_DIR`): its notes and its copies of releases."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

from buckler.release.restate import restate
from buckler.trust.standing import Claim
from buckler.trust.verdict import MODEL_DIR
from drills.registry import DrillError
from drills.report import Drill
from drills.scene import DrillScene
from drills.service import RunningService, wait_until
from drills.trust.stage import PATIENCE, Observer, Stage, answered, observing, refusals, stage

DEGRADED = Claim("degraded", "flagged ratio 0.4 > 0.1")
REVIEWED = "model_degraded"
WORKERS = 2
ANSWERS = 12  # after each attack, before the next one


def cache_writer(scene: DrillScene, drill: Drill) -> None:
    """What is written into the service's directory changes no answer, stops no worker and lasts no restart."""
    with stage(scene, drill) as trust:
        first = trust.champion()
        with scene.service(workers=WORKERS) as service, observing(service) as observer:
            second = trust.champion()
            observer.wait_for(second)
            wait_until(lambda: _swaps(service) >= WORKERS, PATIENCE, "both workers to take the new champion")
            _changed(trust, service, observer)
            _forged(trust, service, observer, first, second)
            third = trust.champion()
            observer.wait_for(third)
            _standings(trust, service, observer)
        answered(drill, observer, (first, second, third), lost=drill.figures["workers killed"])


def _swaps(service: RunningService) -> float:
    return service.metric("buckler_release_swaps_total")


def _releases(service: RunningService) -> Path:
    return service.directory / "releases"


def _restart(trust: Stage, service: RunningService) -> None:
    """Kill one worker after the other; each is back before the next one is killed."""
    for worker in service.workers():
        before = service.ready_workers()
        os.kill(worker, signal.SIGKILL)
        wait_until(partial(_more_ready, service, before), PATIENCE, "a new worker to start")
        trust.drill.figures["workers killed"] = trust.drill.figures.get("workers killed", 0) + 1


def _more_ready(service: RunningService, count: int) -> bool:
    return service.ready_workers() > count


def _files(service: RunningService) -> list[Path]:
    return [path for path in _releases(service).glob(f"sha256-*/{MODEL_DIR}/*") if path.is_file()]


def flip(path: Path) -> None:
    """Change the second half of a file in place: its name, size and inode stay."""
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half:] = bytes(byte ^ 0x55 for byte in content[half:])
    with path.open("r+b") as file:
        file.write(content)


def _changed(trust: Stage, service: RunningService, observer: Observer) -> None:
    """Change and truncate every cached file of every model while it answers."""
    attacks: dict[str, Callable[[Path], object]] = {
        "changes every cached file of the model while it answers": flip,
        "truncates them to one byte": lambda path: os.truncate(path, 1),
    }
    for name, attack in attacks.items():
        workers, wrong, failed = service.workers(), observer.wrong(), observer.failed
        for path in _files(service):
            attack(path)
        observer.wait(ANSWERS)
        trust.expect(
            name,
            "service",
            "the same answers from the same workers",
            (service.workers(), observer.wrong(), observer.failed) == (workers, wrong, failed),
            f"{observer.wrong() - wrong} answers changed, {observer.failed - failed} requests failed",
        )
    before = observer.wrong()
    _restart(trust, service)
    observer.wait(ANSWERS)
    intact = all(path.stat().st_size > 1 for path in _files(service) if _is_live(service, path))
    trust.expect(
        "leaves them so until every worker is restarted",
        "service",
        "downloads the release again",
        observer.wrong() == before and intact,
        "the damaged copy was not replaced",
    )


def _is_live(service: RunningService, path: Path) -> bool:
    return path.parent.parent.name == _note(service)["release"]


def _note(service: RunningService) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads((_releases(service) / "last_good.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DrillError(f"the service has no note of its last good release: {error}") from error
    return found


def _forged(trust: Stage, service: RunningService, observer: Observer, first: str, second: str) -> None:
    """Let `last_good.json` name another signed release under the champion's number and record, or a time far ahead."""
    note, place = _note(service), _releases(service) / "last_good.json"
    others = [path.name for path in _releases(service).glob("sha256-*") if path.name != note["release"]]
    if not others:
        raise DrillError("the service has no copy of an earlier release")
    _intact(trust, service, others[0], first)
    forgeries = {
        "names another signed release under the champion's record": {**note, "release": others[0]},
        "claims a promotion in the year 9999": {
            "model": note["model"],
            "version": first,
            "release": others[0],
            "promoted_at": "9999-01-01T00:00:00+00:00",
        },
    }
    for name, forged in forgeries.items():
        since, before = observer.count, refusals(service)
        place.write_text(json.dumps(forged), encoding="utf-8")
        _restart(trust, service)
        observer.wait(ANSWERS)
        codes = [code for code, count in refusals(service).items() if count > before[code]]
        found = observer.versions_since(since)
        trust.expect(
            name,
            "service",
            ", ".join(codes) or "the note is ignored",
            found == [second],
            f"expected answers of version {second} only, got {found}",
        )


def _intact(trust: Stage, service: RunningService, name: str, version: str) -> None:
    """Give the cache an intact copy of an earlier release, which was damaged before."""
    copy = _releases(service) / name
    shutil.rmtree(copy)
    trust.scene.registry.model.download(version, copy)


def _standings(trust: Stage, service: RunningService, observer: Observer) -> None:
    """Delete the service's note that the champion is degraded, or put an earlier one back."""
    champion = trust.scene.registry.champion() or ""
    place = _releases(service) / "standings.json"
    restate(trust.scene.registry.model, champion, "drift", None)
    wait_until(lambda: place.exists() and champion in place.read_text(), PATIENCE, "the first standing to be stored")
    earlier = place.read_bytes()
    restate(trust.scene.registry.model, champion, "drift", DEGRADED)
    wait_until(lambda: _all_reviewed(observer), PATIENCE, "answers that need review")
    attacks: dict[str, Callable[[], object]] = {
        "deletes standings.json": place.unlink,
        "puts an earlier standings.json back": lambda: place.write_bytes(earlier),
    }
    for name, attack in attacks.items():
        attack()
        since = observer.count
        observer.wait(ANSWERS)
        missed = observer.without(REVIEWED, since)
        problem = f"{missed} answers did not need review"
        trust.expect(name, "service", "every answer still needs review", missed == 0, problem)
        since = observer.count
        if place.exists():  # as a worker may have written it since
            attack()
        _restart(trust, service)
        wait_until(lambda: _all_reviewed(observer), PATIENCE, "answers that need review")
        missed = observer.without(REVIEWED, since)
        problem = f"{missed} answers did not need review"
        name = f"{name}, and both workers restart"
        trust.expect(name, "service", "every answer needs review until the registry was asked", missed == 0, problem)


def _all_reviewed(observer: Observer) -> bool:
    return observer.count > ANSWERS and observer.without(REVIEWED, observer.count - ANSWERS) == 0
