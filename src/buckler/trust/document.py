"""Signed documents: a dataclass as the statement of a DSSE envelope, checked field by field when it is opened."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import AwareDatetime, PlainSerializer, TypeAdapter, ValidationError

from buckler.errors import VerdictError
from buckler.trust import envelope

T = TypeVar("T")

# With its offset written out, "+00:00", as in every document signed so far; pydantic would write "Z".
Time = Annotated[AwareDatetime, PlainSerializer(datetime.isoformat, return_type=str)]


@dataclass(frozen=True, slots=True)
class OpenedDocument(Generic[T]):
    """A document whose signature is valid.

    Attributes:
        content: The declared fields of this kind of document.
        statement: The whole signed JSON object.
        digest: ``sha256:…`` of the signed payload; identifies this document.
    """

    content: T
    statement: dict[str, Any]
    digest: str


class SignedDocument(Generic[T]):
    """One kind of signed document.

    Args:
        name: Name in errors: "the signed NAME".
        payload_type: Type of the envelope's payload. The type is signed too, so no kind of document passes for another.
        content: A dataclass; a document may contain further fields.
        schema: Number of the statement's schema.
    """

    def __init__(self, name: str, payload_type: str, content: type[T], *, schema: int = 1) -> None:
        self.payload_type = payload_type
        self._name = f"the signed {name}"
        self._schema = schema
        self._adapter = TypeAdapter(content)

    def sign(self, content: T, key: Ed25519PrivateKey, **derived: Any) -> dict[str, Any]:
        """Return the envelope of ``content``; ``derived`` fields are added to the statement for its readers."""
        statement = {"schema": self._schema, **self._adapter.dump_python(content, mode="json"), **derived}
        return envelope.sign(statement, key, payload_type=self.payload_type)

    def open(self, sealed: object, public_key: Ed25519PublicKey) -> OpenedDocument[T]:
        """Return the document in an envelope; the signature is verified before the document is parsed.

        Raises:
            VerdictError: ``malformed`` or ``signature``.
        """
        payload = envelope.open_payload(sealed, public_key, payload_type=self.payload_type)
        statement = envelope.parse_object(payload, self._name)
        if statement.get("schema") != self._schema:
            got = statement.get("schema")
            raise VerdictError("malformed", f"{self._name}: expected schema {self._schema}, got {got!r}")
        try:
            content = self._adapter.validate_json(payload, strict=True)
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
            raise VerdictError("malformed", f"{self._name} is malformed: {faults}") from error
        return OpenedDocument(content, statement, f"sha256:{hashlib.sha256(payload).hexdigest()}")
