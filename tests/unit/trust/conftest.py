from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a test writes its audit log."""
    return tmp_path / "audit" / "audit.jsonl"
