"""Writes the dashboards as JSON for Grafana: `make dashboards`, after any change in boards/ or parts.py.

They are built with Grafana's schema library, so that a field unknown to Grafana is an error here. The JSON files are
committed, so that Grafana needs only the files.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from monitoring.grafana.boards import drift, jobs, robustness, serving

FOLDER = Path(__file__).parent / "dashboards"
BOARDS = (serving.BOARD, robustness.BOARD, drift.BOARD, jobs.BOARD)


def files() -> Iterator[tuple[Path, str]]:
    """Yield path and content of each dashboard's file."""
    for board in BOARDS:
        yield FOLDER / f"{board.uid}.json", json.dumps(board, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def main() -> None:
    """Write all files, and remove files of former dashboards."""
    wanted = dict(files())
    for stale in set(FOLDER.glob("*.json")) - set(wanted):
        stale.unlink()
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
