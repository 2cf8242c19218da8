"""Verdicts that no gate made, for tests that need only some of their fields."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from buckler.trust.verdict import JudgedModel, Source, Verdict

MODEL_DIGEST = f"sha256:{'5d' * 32}"


def verdict(*, digest: str = MODEL_DIGEST, **changes: Any) -> Verdict:
    """Return a passing verdict, valid for a day, about the model ``digest``."""
    now = datetime.now(UTC)
    empty = Verdict(
        model=JudgedModel("skin-lesion", digest),
        passed=True,
        reasons=(),
        notes=(),
        policy={},
        issued_at=now,
        expires_at=now + timedelta(days=1),
        source=Source(None, False),
        evidence={},
        measured={},
        id=f"sha256:{'7d' * 32}",
        files={},
    )
    return replace(empty, **changes)
