"""The servers' logs outlive a restart and stay small."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.local import logs, members, processes
from tests.waiting import wait_for

pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
COUNTS = "import itertools\nfor n in itertools.count(): print(f'line {n:08d} ' + 'x' * 100, flush=True)"


def server(code: str) -> processes.Process:
    store = "postgresql://user:secret@db/mlflow"
    return processes.Process("service", [sys.executable, "-c", code, store], 0, "", {})


def test_a_restart_keeps_the_log_and_begins_with_time_and_command(root: Path):
    (root / ".buckler/run").mkdir(parents=True)
    log = server("").log
    for reason in ("first", "second"):
        processes.start(server(f"print('died of the {reason} reason')"))
        wait_for(lambda reason=reason: f"the {reason} reason\n" in log.read_text(), 30)
    lines = log.read_text().splitlines()
    assert [line for line in lines if line.startswith("died")] == [
        "died of the first reason",
        "died of the second reason",
    ]
    starts = [line for line in lines if line.startswith("=== 20")]
    assert len(starts) == 2
    assert sys.executable in starts[0]
    assert "secret" not in log.read_text()
    assert logs.last_start(log) == "died of the second reason"


def test_a_large_log_becomes_the_first_of_five_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logs, "LIMIT_BYTES", 10)
    log = tmp_path / "service.log"
    with log.open("ab") as server:
        for n in range(8):
            server.write(f"content number {n}\n".encode())
            server.flush()
            logs.rotate(log)
        server.write(b"short\n")
        server.flush()
        logs.rotate(log)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "service.log": "short\n",
        **{f"service.log.{number}": f"content number {8 - number}\n" for number in range(1, 6)},
    }


def test_on_a_full_disk_a_log_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(logs, "LIMIT_BYTES", 10)
    monkeypatch.setattr(logs.shutil, "copyfile", full)
    (tmp_path / "service.log").write_text("content of the log\n")
    logs.rotate(tmp_path / "service.log")
    assert [path.name for path in tmp_path.iterdir()] == ["service.log"]
    assert (tmp_path / "service.log").read_text() == "content of the log\n"


def test_the_log_of_a_running_server_stays_within_its_limit(root: Path):
    (root / ".buckler/run").mkdir(parents=True)
    code = "from infra.local import logs; from pathlib import Path; import sys;" + (
        "logs.LIMIT_BYTES = 100_000; logs.PERIOD_SECONDS = 0.05; logs.main(Path(sys.argv[1]))"
    )
    processes.start(server(COUNTS))
    try:
        with subprocess.Popen([sys.executable, "-c", code, root / ".buckler/run"]) as rotation:
            wait_for(lambda: (root / ".buckler/run/service.log.5").exists(), 60)
            time.sleep(0.2)
            rotation.kill()
    finally:
        processes.stop(["service"])
    kept = [root / f".buckler/run/service.log.{number}" for number in range(5, 0, -1)]
    newest = [int(path.read_bytes().splitlines()[-1][5:13]) for path in kept]
    assert newest == sorted(newest)
    assert not list((root / ".buckler/run").glob("*.6"))
    assert members.found() == []
