"""Drills about the live model: a swap under load, a killed promotion, tampered releases."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from benchmarks.load import Load
from buckler.release.assess import Assessor
from buckler.serving.assessment import ReasonCode
from buckler.trust import verdict
from buckler.trust.signed import Records
from drills.registry import NAME, DrillError
from drills.report import Drill
from drills.scene import DrillScene
from drills.service import RunningService, wait_until

CLIENTS = 4
PATIENCE = 120.0


def swap(scene: DrillScene, drill: Drill) -> None:
    """The service takes a new champion and a roll-back under load without a failed request."""
    first = scene.champion()
    second = scene.publish()
    with scene.service(workers=2) as service, service.clients(CLIENTS) as load:
        wait_until(lambda: len(load.requests) > 10, PATIENCE, "the first answers")
        moves: tuple[tuple[str, str, Callable[[], object]], ...] = (
            ("seconds_to_new_champion", second, partial(scene.registry.promote, second)),
            ("seconds_to_roll_back", first, scene.registry.rollback),
        )
        for figure, version, move in moves:
            move()
            wait_for_version = f"answers of version {version} only"
            seconds = wait_until(partial(_only, load, version, CLIENTS * 4), PATIENCE, wait_for_version)
            drill.figures[figure] = round(seconds, 2)
        # One worker may answer all clients before the other has rolled back.
        with suppress(DrillError):
            wait_until(lambda: _from_memory(service) == 2, PATIENCE, "the second worker's roll-back")
        memory = _from_memory(service)
    drill.figures |= {"requests": len(load.requests), "failed": load.failed(), "statuses": load.statuses()}
    drill.figures |= {"slowest_milliseconds": load.slowest_milliseconds(), "roll_backs_from_memory": int(memory)}
    drill.require(load.failed() == 0, f"{load.failed()} requests failed")
    drill.require(memory == 2, f"expected 2 workers to roll back from memory, got {memory:.0f}")


def _from_memory(service: RunningService) -> float:
    return service.metric("buckler_release_swaps_total", model="memory")


def _only(load: Load, version: str, count: int) -> bool:
    """Return whether ``version`` alone answered the last ``count`` requests."""
    return {each.version for each in load.requests[-count:] if each.status == "200"} == {version}


def kill_promotion(scene: DrillScene, drill: Drill) -> None:
    """SIGKILL at a random moment of a promotion leaves the old or the new champion, never another state."""
    first, second = scene.champion(), scene.publish()
    states: Counter[str] = Counter()
    generator = random.Random(7)  # noqa: S311 - moments, not secrets
    with _promoter(scene.directory / "promote.log") as promoter:
        duration = promoter.promote(second)
        for _ in range(scene.scale.promotion_kills):
            old = scene.registry.champion()
            new = first if old == second else second
            promoter.promote(new, kill_after=generator.uniform(0, 1.1 * duration))
            states[_state(scene, old, new)] += 1
        promoter.promote(first)
    drill.figures |= {"kills": scene.scale.promotion_kills, "undisturbed_seconds": round(duration, 2)}
    drill.figures["states_seen"] = dict(sorted(states.items()))
    drill.require(set(states) <= {"old", "new"}, f"other states than old and new: {dict(states)}")
    drill.require(promoter.succeeded, "a promotion after the kills does not succeed")


# Forks a process for each version that it reads, prints its id, and its exit code when it ends. The fork comes after
# the imports, which take longer than the promotion: otherwise most kills would fall into them.
PROMOTE = f"""
import os, sys, traceback
from buckler.release import promote, tracking
registry = tracking.WritableRegistry({NAME!r})
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            promote.promote(registry, number=line.strip())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Promoter:
    """Runs `buckler promote` in processes that can be killed.

    Attributes:
        succeeded: Whether the last promotion ended with exit code 0.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process, self.succeeded = process, False

    def promote(self, version: str, *, kill_after: float | None = None) -> float:
        """Promote a version, kill the process after so many seconds if given, and return the seconds until its end."""
        print(version, file=self._process.stdin, flush=True)
        began, pid = time.monotonic(), int(self._answer())
        if kill_after is not None:
            time.sleep(kill_after)
            with suppress(ProcessLookupError):  # it had ended
                os.kill(pid, signal.SIGKILL)
        self.succeeded = self._answer() == "0"
        return time.monotonic() - began

    def _answer(self) -> str:
        answer = self._process.stdout.readline().strip() if self._process.stdout else ""
        if not answer:
            raise DrillError("the process that runs promotions has ended")
        return answer


@contextmanager
def _promoter(log_file: Path) -> Iterator[Promoter]:
    with (
        log_file.open("ab") as log,
        subprocess.Popen(
            [sys.executable, "-c", PROMOTE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        if not process.stdout or process.stdout.readline() != "ready\n":
            raise DrillError(f"a promotion does not start: {log_file.read_text(encoding='utf-8')}")
        yield Promoter(process)


def _state(scene: DrillScene, old: str | None, new: str) -> str:
    """Return ``old`` or ``new`` if that version is the champion and the service would accept it."""
    champion = Assessor(scene.registry.model, signed=Records()).champion()
    if champion is None or champion.reasons:
        return f"broken: {champion and champion.sentences}"
    return {old: "old", new: "new"}.get(champion.version.version, "another")


Harm = Callable[[Path], object]


def flip_a_byte(release: Path) -> None:
    """Change one bit of the largest file."""
    weights = _largest(release)
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)


def truncate_the_weights(release: Path) -> None:
    """Cut the largest file in half."""
    weights = _largest(release)
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def swap_two_files(release: Path) -> None:
    """Give two files each other's content."""
    one, other = release / "model/detector.json", release / "model/model.json"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def take_the_signature_away(release: Path) -> None:
    """Remove the verdict."""
    (release / verdict.VERDICT_FILE).unlink()


def tampering(scene: DrillScene, drill: Drill) -> None:
    """A tampered release is refused with its reason, the last valid one keeps answering, a new valid one is taken."""
    replaced, good = scene.champion(), scene.champion()
    harms: dict[str, Callable[[], None]] = {
        harm.__name__: partial(_harmed, scene, harm)
        for harm in (flip_a_byte, truncate_the_weights, swap_two_files, take_the_signature_away)
    }
    harms["replay_an_older_verdict"] = lambda: _replayed(scene)
    harms["move_the_alias_by_hand"] = lambda: scene.registry.point_to(scene.publish())
    harms["move_the_alias_back_by_hand"] = lambda: scene.registry.point_to(replaced)
    with scene.service() as service, service.clients(1) as load:
        wait_until(lambda: len(load.requests) > 3, PATIENCE, "the first answers")
        wait_until(lambda: service.metric("buckler_release_check_timestamp_seconds") > 0, PATIENCE, "the first check")
        reasons = {}
        for name, harm in harms.items():
            before = _refusals(service)
            harm()
            wait_until(partial(_refused_since, service, before), PATIENCE, f"a refusal after {name}")
            counted = [reason for reason, count in _refusals(service).items() if count > before[reason]]
            reasons[name] = ", ".join(counted)
        scene.registry.rollback()  # nothing else is promoted while the alias is not where the last promotion set it
        last = scene.champion()
        seconds = wait_until(lambda: _only(load, last, 2), PATIENCE, "answers of the new release")
    answered = sorted({each.version for each in load.requests if each.version})
    expected = {
        **dict.fromkeys(("flip_a_byte", "truncate_the_weights", "swap_two_files"), "digest"),
        "take_the_signature_away": "missing",
        "replay_an_older_verdict": "not_promoted",
        "move_the_alias_by_hand": "not_promoted",
        "move_the_alias_back_by_hand": "superseded",
    }
    drill.figures |= {"refused_because": reasons, "requests": len(load.requests), "failed": load.failed()}
    drill.figures |= {"versions_that_answered": answered, "seconds_to_the_sound_release_after": round(seconds, 2)}
    drill.require(reasons == expected, f"expected the reasons {expected}")
    drill.require(answered == sorted([good, last]), f"expected answers of versions {good} and {last} only")
    drill.require(load.failed() == 0, f"{load.failed()} requests failed")


def _harmed(scene: DrillScene, harm: Harm) -> None:
    """Promote a release that is harmed after its checks, before a service can load it."""
    path = scene.builder.build()
    version = scene.registry.register(path)
    scene.registry.harm(version, harm)
    scene.registry.sign_promotion(version, verdict.open_release(path, scene.registry.trusted.verdict))


def _replayed(scene: DrillScene) -> None:
    """Make a release the champion whose verdict was replaced by an older one."""
    older = scene.builder.build() / verdict.VERDICT_FILE
    _harmed(scene, lambda release: shutil.copyfile(older, release / verdict.VERDICT_FILE))


def _refused_since(service: RunningService, before: Mapping[str, float]) -> bool:
    return _refusals(service) != before


def _refusals(service: RunningService) -> dict[str, float]:
    reasons = (*ReasonCode, "unavailable")
    return {reason: service.metric("buckler_model_refused_total", reason=reason) for reason in reasons}


def _largest(release: Path) -> Path:
    return max((release / verdict.MODEL_DIR).iterdir(), key=lambda path: path.stat().st_size)
