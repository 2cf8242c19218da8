"""Signs a release without a gate, for benchmarks and tests."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from buckler.trust import digests, keys, verdict

MODEL_NAME = "skin-lesion"


def write_verdict(release: Path, key_folder: Path, name: str = MODEL_NAME, **changes: Any) -> None:
    """Sign a verdict about the current files of ``release``: passed, and valid for a day.

    Args:
        release: Directory with the model and the evidence; the verdict is written there.
        key_folder: Directory with the private key.
        name: Name of the model.
        changes: Fields of the judgement that replace the usual ones.
    """
    files, now = digests.file_digests(release / verdict.MODEL_DIR), datetime.now(UTC)
    judgement = verdict.Judgement(
        model=verdict.JudgedModel(name, digests.digest_of(files)),
        passed=True,
        reasons=(),
        notes=(),
        policy={},
        issued_at=now,
        expires_at=now + timedelta(days=1),
        source=verdict.Source(None, False),
        evidence=digests.file_digests(release / verdict.EVIDENCE_DIR),
        measured={},
    )
    key = keys.load_private_key(key_folder / keys.PRIVATE_KEY_FILE)
    envelope = verdict.sign(replace(judgement, **changes), files, key)
    (release / verdict.VERDICT_FILE).write_text(json.dumps(envelope))
