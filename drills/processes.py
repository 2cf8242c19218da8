"""Drills about processes and machines: a killed worker, a full disk, overload, sustained load."""

import os
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import servers
from benchmarks.load import LOST, Load
from buckler.trust import audit_chain
from drills.registry import DrillError
from drills.report import Drill
from drills.scene import DrillScene
from drills.service import RunningService, wait_until

CLIENTS = 4
PATIENCE = 120.0
RECOVERY_SECONDS = 10.0
OVERLOAD = 4.0
GROWTH_MEGABYTES = 50.0
REFUSED = {"429", "503"}


def _more_ready(service: RunningService, count: int) -> bool:
    return service.ready_workers() > count


def kill_worker(scene: DrillScene, drill: Drill) -> None:
    """SIGKILL of a worker under load loses at most the requests in flight; a new worker answers within 10 s."""
    scene.champion()
    lost, back, computed = [], [], []
    with scene.service(workers=2) as service, service.clients(CLIENTS) as load:
        for _ in range(scene.scale.worker_kills):
            wait_until(lambda: len(load.after(time.monotonic() - 5)) > 10, PATIENCE, "answers before the kill")
            before, ready, failed = service.workers(), service.ready_workers(), load.failed()
            os.kill(before[0], signal.SIGKILL)
            seconds = wait_until(partial(_more_ready, service, ready), PATIENCE, "a new worker to start")
            back.append(round(seconds, 2))
            (new,) = set(service.workers()) - set(before)
            computed.append(round(servers.cpu_seconds(new), 2))
            time.sleep(1)
            lost.append(load.failed() - failed)
    drill.figures |= {"kills": len(back), "clients": CLIENTS, "lost_requests": lost, "seconds_until_back": back}
    # These tell how much of the time above is due to other programs on the machine.
    drill.figures |= {"processor_seconds_to_start": computed, "processors": os.cpu_count()}
    drill.figures |= {"load_average": round(os.getloadavg()[0], 1)}
    drill.figures |= {"requests": len(load.requests), "statuses": load.statuses()}
    drill.require(max(lost) <= CLIENTS, f"lost {max(lost)} requests, {CLIENTS} were in flight")
    drill.require(max(back) <= RECOVERY_SECONDS, f"back after {max(back)} s, expected at most {RECOVERY_SECONDS:.0f} s")
    drill.require(set(load.statuses()) <= {"200", LOST}, f"other answers than 200: {load.statuses()}")


def disk_full(scene: DrillScene, drill: Drill) -> None:
    """On a full disk no answer is sent that is not in the audit log, and a new release is refused; both recover."""
    first = scene.champion()
    size = sum(file.stat().st_size for file in scene.builder.build().rglob("*") if file.is_file())
    with _small_disk(scene.directory / "disk", int(size * 1.5)) as disk:
        env = {"BUCKLER_RELEASES_DIR": f"{disk}/releases", "BUCKLER_AUDIT_LOG": f"{disk}/audit/audit.jsonl"}
        with scene.service(env) as service, service.clients(1) as load:
            wait_until(lambda: len(load.requests) > 3, PATIENCE, "the first answers")
            drill.figures["while_full"] = _fill(disk, load)
            freed = time.monotonic()
            wait_until(lambda: any(e.status == "200" for e in load.after(freed)), PATIENCE, "answers again")
            drill.figures["seconds_until_answers"] = round(time.monotonic() - freed, 2)
            second = scene.champion()  # does not fit beside the first
            wait_until(lambda: _unavailable(service) > 0, PATIENCE, "a refusal of the release that does not fit")
            refused = time.monotonic()
            wait_until(lambda: any(e.version for e in load.after(refused)), PATIENCE, "answers of the old release")
            answered = {each.version for each in load.requests if each.version}
            _resize(disk, size * 4)
            fits = wait_until(lambda: any(e.version == second for e in load.requests[-3:]), PATIENCE, "the new release")
            drill.figures["seconds_until_the_release_fits"] = round(fits, 2)
        report = audit_chain.verify(disk / "audit/audit.jsonl")
    good = sum(each.status == "200" for each in load.requests)
    drill.figures |= {"answers": good, "lines_in_the_log": report.lines, "statuses": load.statuses()}
    drill.figures["codes"] = sorted({each.code for each in load.requests if each.code})
    drill.require(set(drill.figures["while_full"]) == {"audit_unavailable"}, "expected the code audit_unavailable only")
    drill.require(drill.figures["codes"] == ["audit_unavailable"], f"other refusals: {drill.figures['codes']}")
    drill.require(answered == {first}, f"expected answers of version {first} only, got {answered}")
    drill.require(report.problem is None, f"the audit log is invalid: {report.problem}")
    drill.require(report.lines >= good, f"{good} answers, but {report.lines} lines in the log")


def _fill(disk: Path, load: Load) -> dict[str, int]:
    """Fill the disk, wait for ten requests, free the disk again; return the number of answers for each code."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    time.sleep(1)  # a pending answer may have used the last free space
    full = time.monotonic()
    wait_until(lambda: len(load.after(full)) >= 10, PATIENCE, "requests while the disk is full")
    codes = [each.code or each.status for each in load.after(full)]
    filler.unlink()
    return {code: codes.count(code) for code in sorted(set(codes))}


@contextmanager
def _small_disk(place: Path, size: int) -> Iterator[Path]:
    place.mkdir(parents=True)
    _as_root("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
    try:
        yield place
    finally:
        _as_root("umount", str(place))


def _resize(place: Path, size: int) -> None:
    _as_root("mount", "-o", f"remount,size={size}", str(place))


def _as_root(program: str, *arguments: str) -> None:
    path = shutil.which(program)
    done = subprocess.run([path or program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DrillError(
            f"cannot {program} a small disk ({done.stderr.strip()});"
            " run as root, or under `unshare --map-root-user --mount`"
        )


def _unavailable(service: RunningService) -> float:
    return service.metric("buckler_model_refused_total", reason="unavailable")


def overload(scene: DrillScene, drill: Drill) -> None:
    """At four times its capacity the service answers 200, 429 or 503, and within 10 s afterwards 200 only."""
    scene.champion()
    with scene.service() as service:
        capacity = _capacity(service, scene.scale.capacity_seconds)
        load = service.storm(OVERLOAD * capacity, scene.scale.overload_seconds)
        ended = time.monotonic()
        with service.clients(1) as after:
            wait_until(lambda: any(each.status == "200" for each in after.requests), PATIENCE, "a good answer")
            recovered = time.monotonic() - ended
            time.sleep(2)
    good = [each for each in load.requests if each.status == "200"]
    drill.figures |= {"capacity_per_second": round(capacity, 1), "sent": len(load.requests)}
    drill.figures |= {"seconds": scene.scale.overload_seconds, "statuses": load.statuses()}
    drill.figures |= {"codes": sorted({each.code for each in load.requests if each.code})}
    drill.figures |= {"good_per_second": round(len(good) / scene.scale.overload_seconds, 1)}
    drill.figures |= {"seconds_to_recover": round(recovered, 2), "failed_after": after.failed()}
    drill.require(set(load.statuses()) <= {"200"} | REFUSED, f"other answers: {load.statuses()}")
    drill.require(bool(good), "no request was answered 200")
    drill.require(len(good) < len(load.requests), "no request was refused: the load was too small")
    drill.require(recovered <= RECOVERY_SECONDS, f"recovered after {recovered:.1f} s")
    drill.require(after.failed() == 0, f"{after.failed()} requests failed afterwards")


def _capacity(service: RunningService, seconds: float) -> float:
    """Return the answers per second under closed-loop load."""
    with service.clients(CLIENTS) as load:
        wait_until(lambda: len(load.requests) > CLIENTS, PATIENCE, "the first answers")
        before = len(load.requests)
        time.sleep(seconds)
        return (len(load.requests) - before) / seconds


def memory(scene: DrillScene, drill: Drill) -> None:
    """The workers' memory grows by at most 50 MB in ten minutes of load."""
    scene.champion()
    with scene.service() as service, service.clients(CLIENTS) as load:
        time.sleep(scene.scale.warm_up_seconds)
        began, sizes = time.monotonic(), [service.megabytes()]
        while time.monotonic() - began < scene.scale.load_seconds:
            time.sleep(min(5.0, scene.scale.load_seconds / 3))
            sizes.append(service.megabytes())
    fifth = max(1, len(sizes) // 5)
    grown = statistics.median(sizes[-fifth:]) - statistics.median(sizes[:fifth])
    drill.figures |= {"seconds": scene.scale.load_seconds, "requests": len(load.requests), "failed": load.failed()}
    drill.figures |= {"megabytes_at_start": round(sizes[0], 1), "megabytes_at_most": round(max(sizes), 1)}
    drill.figures["megabytes_grown"] = round(grown, 1)
    drill.require(grown <= GROWTH_MEGABYTES, f"grew by {grown:.1f} MB, expected at most {GROWTH_MEGABYTES:.0f} MB")
    drill.require(load.failed() == 0, f"{load.failed()} requests failed")
