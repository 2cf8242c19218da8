"""One signed document of each kind."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from buckler.trust import approval, digests, promotion, receipt, recovery, standing, verdict
from buckler.trust.document import PAYLOAD_TYPE, SignedDocument
from buckler.trust.envelope import pre_authentication_encoding
from tests.projects import KEY, PUBLIC

MOMENT = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
LATER = MOMENT + timedelta(days=30)
FILES = {"classifier.keras": f"sha256:{'aa' * 32}", "runtime/int8.bin": f"sha256:{'bb' * 32}"}
MODEL = digests.digest_of(FILES)
VERDICT_ID, INPUT = f"sha256:{'7d' * 32}", f"sha256:{'1f' * 32}"
ANSWER = {"label": "benign", "decision": "accept", "model": {"name": "skin", "version": "3", "digest": MODEL}}

KINDS: dict[str, SignedDocument[Any]] = {
    "verdict": verdict.DOCUMENT,
    "promotion": promotion.DOCUMENT,
    "standing": standing.DOCUMENT,
    "receipt": receipt.DOCUMENT,
    "recovery": recovery.DOCUMENT,
    "approval": approval.DOCUMENT,
}
PREDICATES = {
    "verdict": verdict.Judgement(
        model=verdict.JudgedModel("skin", MODEL),
        passed=True,
        reasons=(),
        notes=("no champion",),
        policy={"min_clean_accuracy": 0.7},
        issued_at=MOMENT,
        expires_at=LATER,
        source=verdict.Source("0" * 40, False, initial_weights=f"sha256:{'2e' * 32}"),
        evidence={"robustness.json": f"sha256:{'cc' * 32}"},
        measured={"clean_accuracy": 0.8},
    ),
    "promotion": promotion.PromotionRecord("skin", "3", MODEL, VERDICT_ID, MOMENT, "local", 4, VERDICT_ID),
    "standing": standing.Standing(
        "skin", "3", MODEL, VERDICT_ID, MOMENT, LATER, MOMENT, {"drift": standing.Claim("degraded", "too dark")}
    ),
    "receipt": receipt.Receipt(INPUT, ANSWER, MOMENT, receipt.AuditLine(17, f"sha256:{'ab' * 32}")),
    "recovery": recovery.Recovery("skin", "local", MOMENT, "Jo", "disk lost", (2, 3), 5, f"sha256:{'ab' * 32}"),
    "approval": approval.Approval("skin", "3", MODEL, VERDICT_ID, "local"),
}
SUBJECTS = {
    "verdict": {f"model/{name}": digest for name, digest in FILES.items()},
    "promotion": {"skin": MODEL},
    "standing": {"skin": MODEL},
    "receipt": {"input": INPUT},
    "recovery": {"skin": f"sha256:{'ab' * 32}"},
    "approval": {"skin": MODEL},
}


def envelope_of(kind: str) -> dict[str, Any]:
    """Return the envelope of a document, signed by the tests' key."""
    sealed = KINDS[kind].sign(PREDICATES[kind], SUBJECTS[kind], KEY)
    return json.loads(json.dumps(sealed))


def seal(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> dict[str, Any]:
    """Return an envelope of any bytes."""
    signature = KEY.sign(pre_authentication_encoding(payload_type, payload))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": PUBLIC.id, "sig": base64.b64encode(signature).decode()}],
    }
