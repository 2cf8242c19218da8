"""Valid signed documents, and the logs, answers and tables with them."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from buckler.trust import approval, digests, promotion, receipt, recovery, standing, verdict
from buckler.trust.digests import canonical
from buckler.trust.document import PAYLOAD_TYPE
from tests.fuzz.answers import PICTURE
from tests.fuzz.documents import KEY, KINDS, MODEL, REGISTRY, seal
from tests.fuzz.logs import audit_file
from tests.fuzz.table import Inputs

MOMENT = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
FILES = {"classifier.keras": f"sha256:{'aa' * 32}", "runtime/int8.bin": f"sha256:{'bb' * 32}"}
DIGEST, VERDICT_ID = digests.digest_of(FILES), f"sha256:{'7d' * 32}"
ANSWER = {"label": "benign", "decision": "accept", "model": {"name": "skin", "version": "3", "digest": DIGEST}}


PREDICATES: dict[str, Any] = {
    "verdict": verdict.Judgement(
        model=verdict.JudgedModel(MODEL, DIGEST),
        passed=True,
        reasons=(),
        notes=("no champion",),
        policy={"min_clean_accuracy": 0.7},
        issued_at=MOMENT,
        expires_at=MOMENT + timedelta(days=30),
        source=verdict.Source("0" * 40, False, initial_weights=f"sha256:{'2e' * 32}"),
        evidence={"robustness.json": f"sha256:{'cc' * 32}"},
        measured={"clean_accuracy": 0.8, "labels": ["benign", None]},
    ),
    "promotion": promotion.PromotionRecord(MODEL, "3", DIGEST, VERDICT_ID, MOMENT, REGISTRY, 4, VERDICT_ID),
    "standing": standing.Standing(
        MODEL,
        "3",
        DIGEST,
        VERDICT_ID,
        MOMENT,
        MOMENT,
        MOMENT,
        {"drift": standing.Claim("degraded", "dark")},
        REGISTRY,
        5,
    ),
    "receipt": receipt.Receipt(VERDICT_ID, ANSWER, MOMENT, receipt.AuditLine(17, f"sha256:{'ab' * 32}")),
    "recovery": recovery.Recovery(MODEL, REGISTRY, MOMENT, "Jo", "disk lost", (2, 3), 5, f"sha256:{'ab' * 32}"),
    "approval": approval.Approval(MODEL, "3", DIGEST, VERDICT_ID, REGISTRY),
}
SUBJECTS = {
    "verdict": {f"model/{name}": digest for name, digest in FILES.items()},
    "promotion": {MODEL: DIGEST},
    "standing": {MODEL: DIGEST},
    "receipt": {"input": VERDICT_ID},
    "recovery": {MODEL: f"sha256:{'ab' * 32}"},
    "approval": {MODEL: DIGEST},
}


def _statement(kind: str, predicate: Any = None, subjects: Mapping[str, str] | None = None) -> bytes:
    sealed = KINDS[kind].sign(predicate or PREDICATES[kind], subjects or SUBJECTS[kind], KEY)
    return base64.b64decode(sealed["payload"])


def _earlier() -> dict[str, dict[str, Any]]:
    """Return statements in the form of before in-toto."""
    judged = json.loads(_statement("verdict"))["predicate"]
    subject = {"name": MODEL, "digest": DIGEST, "files": FILES}
    standing_ = json.loads(_statement("standing"))["predicate"]
    promotion_ = json.loads(_statement("promotion"))["predicate"]
    return {
        "verdict": {
            **{k: v for k, v in judged.items() if k not in ("model", "measured")},
            "subject": subject,
            "source": {},
        },
        "standing": standing_,
        "promotion": promotion_,
        "receipt": json.loads(_statement("receipt"))["predicate"],
    }


def documents_inputs() -> Inputs:
    found = {f"{kind} new": f"{kind} new\n".encode() + _statement(kind) for kind in KINDS}
    for kind, statement in _earlier().items():
        found[f"{kind} old"] = f"{kind} old\n".encode() + canonical({**statement, "schema": 1})
    return found


def records_inputs() -> Inputs:
    sealed = {
        kind: canonical(KINDS[kind].sign(PREDICATES[kind], SUBJECTS[kind], KEY)) for kind in ("promotion", "standing")
    }
    texts = {f"{kind} text": b"text\n" + text for kind, text in sealed.items()}
    return (
        {name: data for name, data in documents_inputs().items() if "verdict" not in name}
        | texts
        | {"empty": b"text\n", "half a character": b'text\n{"a":"\xff"}'}
    )


def envelope_inputs() -> Inputs:
    found = {kind: canonical(KINDS[kind].sign(PREDICATES[kind], SUBJECTS[kind], KEY)) for kind in KINDS}
    forged, two = seal(_statement("receipt"), PAYLOAD_TYPE), seal(_statement("receipt"), PAYLOAD_TYPE)
    forged["signatures"][0]["sig"] = base64.b64encode(bytes(64)).decode()
    two["signatures"].append({"keyid": "sha256:other", "sig": "AAAA"})
    return found | {
        "forged": canonical(forged),
        "two signatures": canonical(two),
        "list": b"[]",
        "twice": b'{"payload":"","payload":""}',
    }


def receipt_inputs() -> Inputs:
    statement = _statement("receipt")
    return {
        "answer": canonical(ANSWER) + b"\n" + statement,
        "other answer": canonical({**ANSWER, "label": "malignant"}) + b"\n" + statement,
        "alone": canonical(seal(statement, PAYLOAD_TYPE)),
        "none": canonical(ANSWER),
    }


# --- answers and tables


def answers_inputs() -> Inputs:
    model = {**ANSWER["model"], "verdict": VERDICT_ID}
    shares = {"benign": 0.75, "malignant": 0.25}
    detector = {"score": 0.5, "threshold": 2.1, "verdict": "clean"}
    one = {**ANSWER, "model": model, "request_id": "1", "probabilities": shares, "reasons": [], "detector": detector}
    error = {"error": {"code": "image_unreadable", "message": "expected a complete JPEG picture"}}
    picture = f"sha256:{hashlib.sha256(PICTURE).hexdigest()}"
    sealed = KINDS["receipt"].sign(replace(PREDICATES["receipt"], input=picture, answer=one), {"input": picture}, KEY)
    bodies = {
        "one": one,
        "with receipt": {**one, "receipt": sealed},
        "several": {"answers": [one, error]},
        "explained": {"answer": one, "label": "benign", "picture": "AAAA", "overlay": "AAAA"},
        "no object": [1],
        "no model": {**one, "model": None},
        "refused": error,
    }
    found = {name: b"{}\n" + canonical(body) for name, body in bodies.items()}
    return found | {
        "page": b"{}\n<html>",
        "empty": b"{}\n",
        "bad gateway": b'{"status":502,"retry-after":"1"}\n<html>',
        "later": b'{"status":429,"retry-after":"1e3"}\n' + canonical(error),
    }


def metadata_inputs() -> Inputs:
    head, rows_ = "file,label,lesion_id,age,sha256", ["benign/1.png,benign,L1,40,x", "malignant/3.png,malignant,,,=1"]
    tables = {
        "whole": [head, *rows_],
        "repeated": [head, rows_[0], rows_[0]],
        "wrong label": [head, rows_[0].replace(",benign", ",malignant")],
        "more cells": [head, rows_[0] + ",1,2"],
        "fewer cells": [head, "benign/1.png,benign"],
        "quoted": [head, '"benign/1.png","benign","a, ""b""",,'],
        "columns twice": [head + ",age,metadata_sha256,label", *rows_],
        "no column": ["file,label", "a,b"],
        "no name": [",file,label,lesion_id", "x,benign/1.png,benign,L1"],
    }
    return {name: "\n".join(lines).encode() for name, lines in tables.items()} | {"empty": b"", "bytes": b"\xff\0\n"}


# --- logs


def audit_inputs() -> Inputs:
    lines: list[dict[str, object]] = [{"event": "start"}, {"answer": ANSWER, "input": VERDICT_ID}, {"recovered": {}}]
    whole = audit_file(lines)
    return {
        "whole": whole,
        "torn": whole[:-20],
        "cut": whole[len(whole) // 2 :],
        "one": audit_file(lines[:1]),
        "empty": b"",
        "line ends": b"\n\n\n",
        "changed": whole.replace(b"benign", b"BENIGN"),
    }


def journal_inputs() -> Inputs:
    first = replace(PREDICATES["promotion"], sequence=1, previous="PREVIOUS")
    second = replace(PREDICATES["standing"], sequence=2, previous="PREVIOUS")
    third = replace(PREDICATES["recovery"], sequence=3, previous="PREVIOUS")
    lines = {
        "promotion": b"record " + _statement("promotion", first),
        "standing": b"record " + _statement("standing", second),
        "recovery": b"record " + _statement("recovery", third, {MODEL: "sha256:PREVIOUS"}),
        "adopted": b"adopted " + _statement("promotion"),
    }
    return {
        "two": lines["promotion"] + b"\n" + lines["standing"] + b"\n",
        "three": b"\n".join([lines["promotion"], lines["standing"], lines["recovery"], b""]),
        "adopted": lines["adopted"] + b"\n" + lines["recovery"] + b"\n",
        "interrupted": lines["promotion"] + b"\n" + lines["adopted"] + b"\n",
        "cut": lines["standing"] + b"\n",
        "torn": lines["promotion"] + b"\n" + b'{"record":"x',
        "half a character": b'text {"a":"\xff"}\n',
        "garbage": b'{"record":"\\ud800"}\n{"adopted":"{}"}\n',
    }
