"""Configuration of Prometheus and Alertmanager: a copy of monitoring/ with this machine's addresses.

A server that runs reads changed files again. If it refuses them, it goes on with those before, and the copy is that of
before, too: the next `make up` tries again.
"""

import contextlib
import filecmp
import os
import re
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from buckler.state import paths
from infra.local import places, processes
from infra.local.places import LocalError
from infra.local.ports import Ports
from infra.local.processes import Process, url

PARTS = ("prometheus", "alertmanager")
RELOAD_SECONDS = 20
_RUNBOOKS = re.compile(r"(?<=runbook_url: )docs/runbooks/(\w+)\.md")


def directory() -> Path:
    """Return the folder of the copies and of what the two servers store."""
    return places.ROOT / paths.MONITORING


def configure(at: Ports) -> list[str]:
    """Write the configuration with the ports ``at``; keep the one before aside and return the parts that have changed.

    Raises:
        LocalError: The file in BUCKLER_SCRAPE_KEY_FILE cannot be read.
        OSError: A file cannot be written.
    """
    changed = []
    for part in PARTS:
        new, now = _aside(part, "new"), directory() / part
        _remove(new)
        _copy(part, new, at)
        if now.is_dir() and _same(new, now):
            _remove(new)
            continue
        old = _aside(part, "old")
        _remove(old)
        with contextlib.suppress(FileNotFoundError):
            now.replace(old)
        new.replace(now)
        changed.append(part)
    return changed


def reload(process: Process) -> None:
    """Have a running server read its changed files.

    Raises:
        LocalError: It refuses them; it goes on with those before.
    """
    reason = _reloaded(process)
    if reason is None:
        print(f"  {process.name} has read its changed configuration", flush=True)
        return
    now, old = directory() / process.name, _aside(process.name, "old")
    if old.is_dir():
        _remove(now)
        old.replace(now)
        _reloaded(process)
    raise LocalError(
        f"{process.name} refuses the changed files of monitoring/{process.name} and goes on with those before: "
        f"{reason}; correct them, then `make up` again"
    )


def _copy(part: str, target: Path, at: Ports) -> None:
    import yaml  # not for `down`, which must work without packages

    source = places.ROOT / "monitoring" / part
    for file in (path for path in sorted(source.rglob("*")) if path.is_file()):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        # A page of the console shows the runbook; the path of a file opens nowhere but here.
        copy.write_text(
            _RUNBOOKS.sub(rf"{url(at['console'])}/runbooks/\1", file.read_text(encoding="utf-8")), encoding="utf-8"
        )
    if part == "prometheus":
        for name in ("service", "watch", "alertmanager"):
            targets = yaml.safe_dump([{"targets": [f"127.0.0.1:{at[name]}"]}])
            (target / f"targets/{name}.yml").write_text(targets, encoding="utf-8")
        if key := os.environ.get("BUCKLER_SCRAPE_KEY_FILE"):
            _copy_key(Path(key), target / "keys/service.key")


def _copy_key(source: Path, target: Path) -> None:
    try:
        shutil.copy(source, target)  # with its mode
    except OSError as error:
        raise LocalError(
            f"BUCKLER_SCRAPE_KEY_FILE: cannot read {source} ({error.strerror}); "
            f"create it with `buckler keys create --role operate --name prometheus --out {source}`"
        ) from error


def _same(one: Path, other: Path) -> bool:
    files = [sorted(path.relative_to(each) for path in each.rglob("*") if path.is_file()) for each in (one, other)]
    return files[0] == files[1] and all(filecmp.cmp(one / file, other / file, shallow=False) for file in files[0])


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:  # it names the file without its folders
        others = (path for path in (folder, *folder.rglob("*")) if path.lstat().st_uid != os.geteuid())
        raise OSError(error.errno, error.strerror, str(next(others, folder))) from error


def _aside(part: str, name: str) -> Path:
    return directory() / f".{part}.{name}"


def _reloaded(process: Process) -> str | None:
    """Signal a server to read its files; return why it refuses them, or None if it has read them."""
    before, pid = _read(process), processes.running(process.name)
    if pid is None:
        return "it has ended"
    size = process.log.stat().st_size
    os.kill(pid, signal.SIGHUP)
    deadline = time.monotonic() + RELOAD_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.2)
        now = _read(process)
        if now[1] > before[1]:
            return None
        if now[0] == 0 and (errors := _errors(process.log, size)):
            return errors[0]  # the others say only that there was one
    return f"no word from it in {RELOAD_SECONDS} s; see {process.log}"


def _read(process: Process) -> tuple[float, float]:
    """Return whether the last reading succeeded, and the time of the last that did, from the server's own metrics."""
    text = processes.content(f"{process.address}/metrics")
    names = ("successful", "success_timestamp_seconds")
    found = [re.search(rf"^{process.name}_config_last_reload_{name} (\S+)$", text, re.MULTILINE) for name in names]
    good, when = (float(match[1]) if match else 0.0 for match in found)
    return good, when


def _errors(log: Path, start: int) -> Sequence[str]:
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode("utf-8", "replace").splitlines()
    return [match[1].replace('\\"', '"') for line in lines if (match := re.search(r'\berr="((?:[^"\\]|\\.)*)"', line))]
