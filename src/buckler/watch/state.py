"""State that jobs store on disk for the exporter and for their next run."""

import json
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from buckler.serving.aliases import CHAMPION
from buckler.state import files, paths
from buckler.trust.standing import State

log = logging.getLogger(__name__)


def write_state(name: str, state: dict[str, Any]) -> None:
    """Replace the state of job ``name`` atomically."""
    paths.WATCH.mkdir(parents=True, exist_ok=True)
    content = json.dumps(state, indent=2) + "\n"
    files.write(paths.WATCH / f"{name}.json", content.encode(), mode=files.SHARED)


def read_state(name: str) -> dict[str, Any] | None:
    """Return the state of job ``name``; None if there is none or the file is damaged."""
    path = paths.WATCH / f"{name}.json"
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        log.warning("%s is damaged and ignored until the job has run again", path)
        return None
    return state if isinstance(state, dict) else None


def note_champion(
    version: str, *, issued_at: datetime, expires_at: datetime, state: State, reasons: Sequence[str] = ()
) -> None:
    """Store the champion's last observed standing.

    Args:
        version: Version number of the champion.
        issued_at: Timezone-aware time of its verdict or of the renewal.
        expires_at: End of the validity.
        state: State in the signed statement.
        reasons: Reasons for the state.
    """
    times = {"issued_at": issued_at.isoformat(), "expires_at": expires_at.isoformat()}
    write_state(CHAMPION, {"version": version, "state": state, "reasons": list(reasons), **times})
