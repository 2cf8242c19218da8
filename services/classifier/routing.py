"""What a row of the table of endpoints states, and how a request finds its row."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import BaseModel
from starlette.routing import compile_path

from buckler.error_codes import ErrorCode, Group
from buckler.serving.api_keys import Role
from services.classifier.contract import ERROR_FORM, ErrorForm, RefusalError

OTHER = "other"  # the metric label of every unknown path
BATCH: Literal["batch"] = "batch"  # as many pictures as the settings allow
READ = ("GET", "HEAD")

Most = int | Literal["batch"]
Handler = Callable[[Any], Any]  # from a `requests.Call` to a response; a coroutine, or a function that runs in a thread


class Reader(Protocol):
    """Reads a request's body chunk by chunk."""

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes.

        Raises:
            RefusalError: The body is malformed.
        """
        ...

    def files(self) -> tuple[bytes, ...]:
        """Return the files of the complete body.

        Raises:
            RefusalError: The body is incomplete.
        """
        ...


@dataclass(frozen=True, slots=True)
class Body:
    """A media type of request bodies, or a range of them such as ``image/*``.

    Attributes:
        reader: Makes a reader from the header ``Content-Type`` and the most pictures of a request.
        model: The type of a JSON body.
        schema: Returns the OpenAPI media type object for the most pictures of a request; default: one file.
        codes: Error codes of its reader alone.
        assumed: Whether a request without ``Content-Type`` has this one.
    """

    media_type: str
    reader: Callable[[str, int], Reader]
    model: type[BaseModel] | None = None
    schema: Callable[[int], Mapping[str, Any]] | None = None
    codes: tuple[ErrorCode, ...] = ()
    assumed: bool = False

    def has(self, named: str) -> bool:
        """Return whether a body is of this type: ``named`` is its own, in lower case, or empty if it states none."""
        if not named:
            return self.assumed
        kind, _, range_of = self.media_type.partition("/")
        if range_of != "*":
            return named == self.media_type
        return re.fullmatch(rf"{re.escape(kind)}/[^\s,/;]+", named) is not None


@dataclass(frozen=True, slots=True)
class Format:
    """A media type of answers.

    Attributes:
        models: Types of a JSON answer; none for other media types and for JSON of a foreign standard.
        description: What the answer contains, where the types do not say it.
        headers: Names of the answer's own headers.
        error_form: How errors are written to clients that ask for this media type.
        aliases: Other names of the media type.
        parameters: Parameters of the media type that a client may state with this value only.
        standard: All media types of a foreign standard, whose clients get this format or an error.
    """

    media_type: str
    models: tuple[type[BaseModel], ...] = ()
    description: str = ""
    headers: tuple[str, ...] = ()
    error_form: ErrorForm = ERROR_FORM
    aliases: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    standard: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter of the query string; all are optional."""

    name: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One row: everything that routing, access, limits, metrics and the OpenAPI document need to know.

    Attributes:
        name: Unique name.
        method: ``GET`` answers ``HEAD`` too.
        paths: Its paths, with parameters in braces.
        handler: Answers a `requests.Call`.
        gives: Media types of its answers, the default first.
        summary, description, tag: For the OpenAPI document.
        label: Its label in metrics and log; default: the first path.
        role: Role that a client's key needs; None: open to everyone.
        takes: Media types of its bodies.
        pictures: Most pictures of one request.
        counted: Whether a request without pictures counts towards the limits, like one picture.
        audited: Whether each answer has a line in the audit log.
        receipts: Whether an answer can carry a signed receipt.
        queries: Parameters of the query string.
        codes: Error codes that the other columns do not imply.
        probe: Whether its successes are logged at the level DEBUG only.
        documented: Whether the OpenAPI document lists it.
    """

    name: str
    method: Literal["GET", "POST"]
    paths: tuple[str, ...]
    handler: Handler
    gives: tuple[Format, ...]
    summary: str = ""
    description: str = ""
    tag: str = "operation"
    label: str = ""
    role: Role | None = None
    takes: tuple[Body, ...] = ()
    pictures: Most = 0
    counted: bool = False
    audited: bool = False
    receipts: bool = False
    queries: tuple[Query, ...] = ()
    codes: tuple[ErrorCode, ...] = ()
    probe: bool = False
    documented: bool = True

    def __post_init__(self) -> None:
        """Fill in the default label."""
        if not self.label:
            object.__setattr__(self, "label", self.paths[0])

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that it answers."""
        return READ if self.method == "GET" else (self.method,)

    @property
    def limited(self) -> bool:
        """Whether its requests count towards the limits; a full service still answers probes and scrapes."""
        return bool(self.pictures) or self.counted

    @property
    def error_codes(self) -> tuple[ErrorCode, ...]:
        """The codes of all its errors, in the order of the list."""
        found = {ErrorCode.INTERNAL_ERROR, ErrorCode.HOST_UNKNOWN, *self.codes}
        if any(each.standard for each in self.gives):
            found |= {ErrorCode.NOT_ACCEPTABLE}
        if self.role:
            found |= _OF_KEYS
        if self.takes:
            found |= _OF_BODIES | {code for body in self.takes for code in body.codes}
        if self.pictures == BATCH:
            found |= {ErrorCode.TOO_MANY_PICTURES}
        if self.limited:
            found |= _OF_LIMITS
        if self.pictures:
            found |= _OF_ANSWERS | {code for code in ErrorCode if code.group is Group.IMAGE}
        if self.audited:
            found |= {ErrorCode.AUDIT_UNAVAILABLE, ErrorCode.RECEIPT_UNSUPPORTED}
        if self.receipts:
            found |= {ErrorCode.RECEIPT_UNAVAILABLE}
        return tuple(code for code in ErrorCode if code in found)

    def most_pictures(self, batch_limit: int) -> int:
        """Return the most pictures of one request; ``batch_limit`` is the one of the settings."""
        return batch_limit if self.pictures == BATCH else int(self.pictures)

    def reader(self, content_type: str, most: int) -> Reader:
        """Return the reader of a body with this header ``Content-Type``.

        Raises:
            RefusalError: ``media_type_unsupported``.
        """
        named = content_type.partition(";")[0].strip().lower()
        for body in self.takes:
            if body.has(named):
                return body.reader(content_type, most)
        raise RefusalError(
            ErrorCode.MEDIA_TYPE_UNSUPPORTED,
            f"expected the content type {' or '.join(body.media_type for body in self.takes)}, got another or none",
        )


_OF_KEYS = {
    ErrorCode.KEY_MISSING,
    ErrorCode.KEY_UNKNOWN,
    ErrorCode.ROLE_FORBIDDEN,
    ErrorCode.KEYS_UNAVAILABLE,
}
_OF_BODIES = {
    ErrorCode.MEDIA_TYPE_UNSUPPORTED,
    ErrorCode.BODY_MALFORMED,
    ErrorCode.BODY_TOO_LARGE,
    ErrorCode.BODY_TIMEOUT,
}
_OF_LIMITS = {
    ErrorCode.RATE_LIMITED,
    ErrorCode.TOO_MANY_AT_ONCE,
    ErrorCode.OVERLOADED,
    ErrorCode.TIMEOUT,
}
_OF_ANSWERS = {ErrorCode.QUERY_ATTACK, ErrorCode.NO_VERIFIED_MODEL, ErrorCode.MODEL_WITHDRAWN}


@dataclass(frozen=True, slots=True)
class Table:
    """All endpoints of a service."""

    rows: tuple[Endpoint, ...]
    _fixed: dict[str, list[Endpoint]] = field(init=False, repr=False, compare=False, default_factory=dict)
    _patterns: list[tuple[re.Pattern[str], Endpoint]] = field(
        init=False, repr=False, compare=False, default_factory=list
    )

    def __post_init__(self) -> None:
        """Index the rows by path."""
        for row in self.rows:
            for path in row.paths:
                if "{" in path:
                    self._patterns.append((compile_path(path)[0], row))
                else:
                    self._fixed.setdefault(path, []).append(row)

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self.rows)

    def find(self, path: str) -> tuple[Sequence[Endpoint], Mapping[str, str]]:
        """Return the rows of a path, one for each method, and the values of its parameters; no rows if unknown.

        A path with a slash at its end is the one without, unless it is in the table itself.
        """
        found = self._find(path)
        if found[0] or len(path) < 2 or not path.endswith("/") or path.endswith("//"):
            return found
        return self._find(path[:-1])

    def _find(self, path: str) -> tuple[Sequence[Endpoint], Mapping[str, str]]:
        if path in self._fixed:
            return self._fixed[path], {}
        matches = [(found.groupdict(), row) for pattern, row in self._patterns if (found := pattern.match(path))]
        return [row for _, row in matches], matches[0][0] if matches else {}

    def error_form(self, path: str) -> ErrorForm:
        """Return the form of errors about an unknown path: that of the known paths with the same first part."""
        first = _first(path)
        return next((row.gives[0].error_form for row in self.rows if first in map(_first, row.paths)), ERROR_FORM)

    @property
    def labels(self) -> tuple[str, ...]:
        """The metric labels of all requests."""
        return (*_unique(row.label for row in self.rows), OTHER)

    @property
    def picture_labels(self) -> tuple[str, ...]:
        """The metric labels of requests with pictures."""
        return _unique(row.label for row in self.rows if row.pictures)


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _first(path: str) -> str:
    return path.split("/")[1] if path.count("/") else ""
