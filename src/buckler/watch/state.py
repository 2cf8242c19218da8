"""What jobs leave on disk: for the exporter, and for their next run."""

import json
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from buckler.state import files, paths
from buckler.trust.standing import State

CHAMPION = "champion"

log = logging.getLogger(__name__)


def write_state(name: str, state: dict[str, Any]) -> None:
    """Replace what job ``name`` last found, at once."""
    paths.WATCH.mkdir(parents=True, exist_ok=True)
    content = json.dumps(state, indent=2) + "\n"
    files.write(paths.WATCH / f"{name}.json", content.encode(), mode=files.SHARED)


def read_state(name: str) -> dict[str, Any] | None:
    """Return what job ``name`` last found; None if it never did or the file is damaged."""
    path = paths.WATCH / f"{name}.json"
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        log.warning("%s is damaged and left out until the job has run again", path)
        return None
    return state if isinstance(state, dict) else None


def note_champion(
    version: str, *, issued_at: datetime, expires_at: datetime, state: State, reasons: Sequence[str] = ()
) -> None:
    """Keep where the champion stands, as whoever last looked saw it.

    Args:
        version: Its number.
        issued_at: Aware time of its verdict, or of the renewal.
        expires_at: Until when it holds.
        state: What was signed about it.
        reasons: Why.
    """
    times = {"issued_at": issued_at.isoformat(), "expires_at": expires_at.isoformat()}
    write_state(CHAMPION, {"version": version, "state": state, "reasons": list(reasons), **times})
