"""Signs a release without a gate, for benchmarks and tests."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from buckler.trust import digests, keys, verdict

MODEL_NAME = "skin-lesion"


def write_verdict(release: Path, key_folder: Path, name: str = MODEL_NAME, **changes: object) -> None:
    """Sign a verdict about the current files of ``release``: passed, and valid for a day.

    Args:
        release: Directory with the model and the evidence; the verdict is written there.
        key_folder: Directory with the private key.
        name: Name of the model.
        changes: Fields of the statement that replace the usual ones.
    """
    now = datetime.now(UTC)
    statement = {
        "schema": verdict.SCHEMA,
        "subject": {"name": name, "digest": digests.directory_digest(release / verdict.MODEL_DIR)},
        "passed": True,
        "issued_at": now.isoformat(),
        "expires_at": (now + timedelta(days=1)).isoformat(),
        "evidence": digests.file_digests(release / verdict.EVIDENCE_DIR),
        **changes,
    }
    key = keys.load_private_key(key_folder / keys.PRIVATE_KEY_FILE)
    (release / verdict.VERDICT_FILE).write_text(json.dumps(verdict.sign(statement, key)))
