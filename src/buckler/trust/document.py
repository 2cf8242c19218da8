"""Signed documents: an in-toto Statement v1 in a DSSE envelope, with one dataclass for each kind of predicate.

docs/reference/signed-documents.md describes every kind for readers without this package.

Source: https://github.com/in-toto/attestation/tree/main/spec/v1
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, Protocol, TypeVar

from pydantic import AwareDatetime, Field, PlainSerializer, TypeAdapter, ValidationError

from buckler.errors import VerdictError, faults_of
from buckler.trust import earlier, envelope
from buckler.trust.digests import canonical
from buckler.trust.public_keys import PublicKeys
from buckler.trust.signing_key import SigningKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"

Subjects = Mapping[str, str]  # name -> ``sha256:…``

# With its offset written out, "+00:00", as in every document signed so far; pydantic would write "Z".
Time = Annotated[AwareDatetime, PlainSerializer(datetime.isoformat, return_type=str)]

# Of a record in the signer's journal; 0 in a record that is in none.
RecordNumber = Annotated[int, Field(ge=0)]


class Predicate(Protocol):
    """What one kind of document states about its subjects: a dataclass."""

    def is_about(self, subjects: Subjects) -> bool:
        """Return whether the digests that the predicate repeats are those of ``subjects``."""


P = TypeVar("P", bound=Predicate)


@dataclass(frozen=True, slots=True)
class _DigestSet:
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class _Descriptor:
    """A ResourceDescriptor of in-toto."""

    name: str
    digest: _DigestSet


_DESCRIPTORS = TypeAdapter(Annotated[list[_Descriptor], Field(min_length=1)])
_SUBJECTS: TypeAdapter[Subjects] = TypeAdapter(
    Annotated[dict[str, Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]], Field(min_length=1)]
)


@dataclass(frozen=True, slots=True)
class OpenedDocument(Generic[P]):
    """A document whose signature is valid.

    Attributes:
        predicate: What it states.
        subjects: What it states this about.
        digest: ``sha256:…`` of the signed payload; identifies this document.
        signers: Ids of the keys whose signatures are valid; at least one.
    """

    predicate: P
    subjects: Subjects
    digest: str
    signers: tuple[str, ...]


class SignedDocument(Generic[P]):
    """One kind of signed document.

    Args:
        kind: ``verdict``, ``promotion`` and so on.
        predicate: The dataclass of its predicate; a document may contain further fields.
        version: Version of the predicate's fields, part of its type; documents of earlier versions are read too,
            and the dataclass has defaults for the fields that they lack.

    Attributes:
        kind: ``verdict``, ``promotion`` and so on.
        predicate_type: The URI that tells kinds and versions apart; it is signed, and checked before the predicate.
    """

    def __init__(self, kind: str, predicate: type[P], *, version: int = 1) -> None:
        self.predicate_type = f"urn:buckler:{kind}:v{version}"
        self._accepted_types = tuple(f"urn:buckler:{kind}:v{number}" for number in range(version, 0, -1))
        self.kind = kind
        self._name = f"the signed {kind}"
        self._predicate = TypeAdapter(predicate)

    def sign(self, predicate: P, subjects: Subjects, key: SigningKey) -> dict[str, Any]:
        """Return the envelope of a statement about ``subjects``."""
        return envelope.sign(self._statement(predicate, subjects), key, payload_type=PAYLOAD_TYPE)

    def digest(self, predicate: P, subjects: Subjects) -> str:
        """Return ``sha256:…`` of the payload that `sign` signs."""
        return _digest(canonical(self._statement(predicate, subjects)))

    def _statement(self, predicate: P, subjects: Subjects) -> dict[str, Any]:
        return {
            "_type": STATEMENT_TYPE,
            "subject": [
                {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}
                for name, digest in sorted(subjects.items())
            ],
            "predicateType": self.predicate_type,
            "predicate": self._predicate.dump_python(predicate, mode="json"),
        }

    def open(self, sealed: object, public_keys: PublicKeys) -> OpenedDocument[P]:
        """Return the document in an envelope; signature, then type are verified before the content is read.

        Raises:
            VerdictError: ``malformed`` or ``signature``.
        """
        accepted = (PAYLOAD_TYPE, earlier.payload_type(self.kind))
        opened = envelope.open_payload(sealed, public_keys, payload_types=accepted)
        statement = envelope.parse_object(opened.payload, self._name)
        if opened.payload_type == PAYLOAD_TYPE:
            subjects, content = self._unwrap(statement)
        else:
            named, content = earlier.translate(self.kind, statement)
            subjects = _validate(_SUBJECTS, named, f"{self._name}: subject")
        predicate = _validate(self._predicate, content, f"{self._name}: predicate")
        if not predicate.is_about(subjects):
            raise VerdictError("malformed", f"{self._name} contradicts itself: predicate and subject differ in digests")
        return OpenedDocument(predicate, subjects, _digest(opened.payload), opened.signers)

    def _unwrap(self, statement: Mapping[str, Any]) -> tuple[Subjects, object]:
        """Return subjects and predicate of a statement of this kind."""
        for field, accepted in (("_type", (STATEMENT_TYPE,)), ("predicateType", self._accepted_types)):
            if statement.get(field) not in accepted:
                got = statement.get(field)
                raise VerdictError("malformed", f"{self._name}: expected {field} {accepted[0]!r}, got {got!r}")
        descriptors = _validate(_DESCRIPTORS, statement.get("subject"), f"{self._name}: subject")
        subjects = {each.name: f"sha256:{each.digest.sha256}" for each in descriptors}
        if len(subjects) != len(descriptors):
            raise VerdictError("malformed", f"{self._name} names a subject twice")
        return subjects, statement.get("predicate")


def _digest(payload: bytes) -> str:
    return f"sha256:{hashlib.sha256(payload).hexdigest()}"


T = TypeVar("T")


def _validate(adapter: TypeAdapter[T], content: object, name: str) -> T:
    try:
        # From JSON: in strict mode a time may be text in JSON, but not in Python objects.
        return adapter.validate_json(canonical(content), strict=True)
    except ValidationError as error:
        raise VerdictError("malformed", f"{name} is malformed: {faults_of(error)}") from error
    except ValueError as error:  # NaN or half a character, which no signer of this package writes
        raise VerdictError("malformed", f"{name} is malformed: {error}") from error
