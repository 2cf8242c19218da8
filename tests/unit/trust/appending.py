"""Processes that append to an audit log and print each head that ``append`` returned; some are killed meanwhile."""

import os
import resource
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from buckler.errors import AuditError
from buckler.trust.audit import AuditLog, ChainHead, Fsync, entry

PROBABILITIES = {"benign": 0.93, "malignant": 0.07}


def answered(number: int) -> dict[str, object]:
    """Return the log entry of the answer to record ``number``."""
    answer = {"request_id": f"{number:032x}", "label": "benign", "probabilities": PROBABILITIES, "decision": "accept"}
    return entry(answer, client="anonymous", input_digest=f"sha256:{number:064x}", moment=datetime.now(UTC))


def write(path: Path, count: int, **options: object) -> list[ChainHead]:
    """Append ``count`` answers to the log and return the head after each."""
    log = AuditLog(path, **options)
    return [log.append(answered(number)) for number in range(count)]


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def append(path: Path, numbers: Iterator[int], **options: object) -> None:
    """Append and print each new head: the reader of the output knows which lines must exist."""
    log = AuditLog(path, **options)
    for number in numbers:
        head = log.append(answered(number))
        say(f"{head.sequence} {head.digest}")


def fill(path: Path, room: int) -> None:
    """Append until the kernel refuses to let the file grow beyond ``room`` bytes: a real, partial write."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    try:
        append(path, iter(range(1000)))
    except AuditError as error:
        say(str(error))


def die_torn(path: Path, room: int) -> None:
    """Get killed after a part of a line is written, before it is removed."""
    os.ftruncate = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    fill(path, room)


def main() -> None:
    path, what, amount = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    modes: dict[str, Fsync] = {"always": "always", "interval": "interval"}
    if what in modes:
        append(path, iter(range(amount)), fsync=modes[what], segment_bytes=20_000)
    else:
        {"fill": fill, "die_torn": die_torn}[what](path, amount)


if __name__ == "__main__":
    main()
