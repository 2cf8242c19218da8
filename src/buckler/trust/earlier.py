"""Documents of versions before in-toto statements, in the form of today's.

They had a payload type for each kind and a flat statement with the number of its schema. They stay valid: a verdict
lasts weeks, a receipt is kept for years.
"""

from collections.abc import Callable, Mapping
from typing import Any

from buckler.errors import VerdictError

SCHEMA = 1

Statement = Mapping[str, Any]
Translated = tuple[dict[str, str], dict[str, Any]]  # subjects and predicate


def payload_type(kind: str) -> str:
    """Return the payload type that documents of ``kind`` had."""
    return f"application/vnd.buckler.{kind}+json"


def translate(kind: str, statement: Statement) -> Translated:
    """Return subjects and predicate of an earlier document, whose signature was verified.

    Raises:
        VerdictError: ``malformed``.
    """
    if statement.get("schema") != SCHEMA:
        raise VerdictError("malformed", f"the signed {kind}: expected schema {SCHEMA}, got {statement.get('schema')!r}")
    try:
        return _TRANSLATIONS[kind](statement)
    except (AttributeError, KeyError, TypeError) as error:
        raise VerdictError("malformed", f"the signed {kind} is malformed: {type(error).__name__}: {error}") from error


_JUDGED = ("passed", "reasons", "policy", "issued_at", "expires_at", "evidence")


def _verdict(statement: Statement) -> Translated:
    subject = statement["subject"]
    predicate = {
        "model": {"name": subject["name"], "digest": subject["digest"]},
        "notes": statement.get("notes", []),
        "source": {"commit": None, "dirty": False, **statement.get("source", {}), "initial_weights": None},
        **{name: statement[name] for name in _JUDGED},
    }
    predicate["measured"] = {
        name: value for name, value in statement.items() if name not in {*predicate, "schema", "subject"}
    }
    return {f"model/{name}": digest for name, digest in subject["files"].items()}, predicate


def _about_a_version(statement: Statement) -> Translated:
    return {statement["model"]: statement["digest"]}, dict(statement)


def _receipt(statement: Statement) -> Translated:
    return {"input": statement["input"]}, dict(statement)


_TRANSLATIONS: dict[str, Callable[[Statement], Translated]] = {
    "verdict": _verdict,
    "promotion": _about_a_version,
    "standing": _about_a_version,
    "receipt": _receipt,
}
