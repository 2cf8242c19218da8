"""The page on signed documents in ``docs/reference``, from the dataclasses of the predicates and their docstrings."""

import dataclasses
import re
from collections.abc import Iterator
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import AwareDatetime

from buckler.trust import approval, promotion, receipt, recovery, standing, verdict
from buckler.trust.document import PAYLOAD_TYPE, STATEMENT_TYPE

KINDS: dict[str, tuple[Any, type, str]] = {
    "Verdict": (
        verdict.DOCUMENT,
        verdict.Judgement,
        "Every file of the model, as `model/<path>`, with the SHA-256 of its bytes.",
    ),
    "Promotion": (promotion.DOCUMENT, promotion.PromotionRecord, "The model, under its name in the registry."),
    "Approval": (
        approval.DOCUMENT,
        approval.Approval,
        "The model, under its name in the registry. All who approve a version sign the same bytes; the envelope in a"
        " promotion has a signature of each.",
    ),
    "Standing": (standing.DOCUMENT, standing.Standing, "The model, under its name in the registry."),
    "Recovery": (
        recovery.DOCUMENT,
        recovery.Recovery,
        "The model, with the SHA-256 of the journal's line before this record.",
    ),
    "Receipt": (receipt.DOCUMENT, receipt.Receipt, "`input`, the bytes that the service received."),
}
_TYPES = {str: "text", bool: "boolean", int: "number", tuple: "list of texts", AwareDatetime: "time"}
SPECIFICATION = "https://github.com/in-toto/attestation/tree/main/spec/v1"
HEAD = f"""\
Verdict, promotion, approval, standing, recovery and receipt have one form: an in-toto [Statement v1]({SPECIFICATION})
in a [DSSE envelope](https://github.com/secure-systems-lab/dsse), signed with Ed25519. Any tool that reads both formats
reads these documents; [Verify a verdict without Buckler](../how-to/verify-a-verdict.md) shows how.

| field of the payload | content |
| --- | --- |
| `_type` | `{STATEMENT_TYPE}` |
| `subject` | list of `{{"name": …, "digest": {{"sha256": …}}}}`: what the document is about |
| `predicateType` | the kind of document and the version of its fields, one of those below |
| `predicate` | what the document states, as below |

The envelope's `payloadType` is `{PAYLOAD_TYPE}`; its `keyid` is `sha256:` and the SHA-256 of the raw public key.
A document is accepted as its own kind only: the type is signed, and checked before the predicate is read. Fields that
are not listed here are ignored. A time is ISO 8601 with its offset; digests within a predicate begin with `sha256:`.

Promotions, standings and recoveries of a model are numbered. The signer keeps them in a journal, a file of JSON lines
in which each line has the SHA-256 of the line before it; of two records about a model the one with the higher number
is valid, whatever their times say. A promotion of version 1 names no registry and is no longer accepted; a standing
of version 1 is, until the first one with a number.

Earlier versions of Buckler signed flat statements with a payload type for each kind, such as
`application/vnd.buckler.verdict+json`; they are still accepted.

The digest of a model covers the names and bytes of all its files: it is the SHA-256 of the JSON object
path → `sha256:…` with sorted keys and no spaces. A promotion and a standing have it as the `sha256` of their subject.
"""


def page(note: str) -> str:
    """Return the page; ``note`` says how it was made."""
    lines = ["# Signed documents", "", note, "", HEAD.rstrip()]
    for name, (document, predicate, subject) in KINDS.items():
        about = f"{_first_sentence(predicate)} Subject: {subject[0].lower()}{subject[1:]}"
        lines += ["", f"## {name}", "", f"`{document.predicate_type}`", "", about, ""]
        lines += ["| field | type | meaning |", "| --- | --- | --- |"]
        lines += [f"| `{field}` | {kind} | {meaning} |" for field, kind, meaning in _fields(predicate)]
    return "\n".join(lines) + "\n"


def _fields(predicate: Any, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield name, type and meaning of each field, nested dataclasses included."""
    meanings, hints = _meanings(predicate), get_type_hints(predicate)
    for field in dataclasses.fields(predicate):
        hint, name = hints[field.name], prefix + field.name
        required = _without_none(hint)
        yield name, _json_type(required) + (" or null" if required != hint else ""), meanings[field.name]
        if dataclasses.is_dataclass(required):
            yield from _fields(required, f"{name}.")
        for each in filter(dataclasses.is_dataclass, get_args(required)):
            yield from _fields(each, f"{name}.<key>.")


def _without_none(hint: Any) -> Any:
    options = get_args(hint)
    return next(each for each in options if each is not NoneType) if NoneType in options else hint


def _json_type(hint: Any) -> str:
    origin = get_origin(hint) or hint
    if origin in _TYPES:
        return _TYPES[origin]
    return "text" if origin is Literal else "object"


def _first_sentence(predicate: type) -> str:
    return _markdown((predicate.__doc__ or "").split("\n\n")[0])


def _meanings(predicate: type) -> dict[str, str]:
    """Return field -> meaning from the docstring's ``Attributes``; ``one, other: text`` is about both."""
    _, _, attributes = (predicate.__doc__ or "").partition("Attributes:\n")
    found = re.findall(r"^ {8}(\w[\w, ]*): (.*(?:\n {9,}.*)*)", attributes, re.MULTILINE)
    return {name: _markdown(text) for names, text in found for name in names.split(", ")}


def _markdown(text: str) -> str:
    return re.sub(r"\bNone\b", "null", " ".join(text.split())).replace("``", "`")
