import json

import pytest

from tests.monitoring.queries import DASHBOARDS


@pytest.fixture(scope="session")
def panel_titles() -> dict[str, set[str]]:
    """Dashboard's uid -> titles of its panels."""
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    return {board["uid"]: {panel["title"] for panel in board["panels"]} for board in boards}
