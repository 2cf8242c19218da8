"""Names of keys in PKCS#11 tokens: ``pkcs11:token=…;object=…?module-path=…&pin-source=file:…``.

Source: RFC 7512, "The PKCS #11 URI Scheme". Only attributes that select one key are read; any other is an error,
because a key that is selected with fewer conditions than were written may be another one.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

from buckler.errors import BucklerError

SCHEME = "pkcs11:"

_PATH = ("token", "serial", "object", "id", "type")
_QUERY = ("module-path", "pin-source")
_EXAMPLE = f"{SCHEME}token=NAME;object=NAME?module-path=/PATH/MODULE.so&pin-source=file:/PATH/PIN"
# RFC 7512, section 2.3: unreserved and pk11-res-avail; everything else is percent-encoded.
_VALUE = r"(?:[A-Za-z0-9\-._~:\[\]@!$'()*+,={extra}]|%[0-9A-Fa-f]{{2}})*"
_PATH_VALUE = re.compile(_VALUE.format(extra="&"))
_QUERY_VALUE = re.compile(_VALUE.format(extra="/?|"))


@dataclass(frozen=True, slots=True)
class KeyUri:
    """Which key of which token, and how to reach it.

    Attributes:
        module: The PKCS#11 library of the token's manufacturer.
        pin_file: File with the PIN of the token's user.
        token: Label of the token; None for any.
        serial: Serial number of the token; None for any.
        label: Label of the key (``object``); None for any.
        id: Id of the key; None for any.
    """

    module: Path
    pin_file: Path
    token: str | None
    serial: str | None
    label: str | None
    id: bytes | None

    @property
    def token_name(self) -> str:
        """The token, in the words of an error message."""
        return " ".join(_named(("token", self.token), ("serial", self.serial)))

    @property
    def key_name(self) -> str:
        """The key, in the words of an error message."""
        return " ".join(_named(("object", self.label), ("id", self.id.hex() if self.id else None)))


def _named(*conditions: tuple[str, str | None]) -> list[str]:
    return [f"{name}={value!r}" for name, value in conditions if value is not None]


def parse(text: str) -> KeyUri:
    """Return what the URI ``text`` names.

    A PIN in the URI (``pin-value``) is refused: the values of environment variables and the arguments of commands are
    visible in process lists, container descriptions and crash reports. ``pin-source`` names a file. For the same reason
    no error repeats a value of the query.

    Raises:
        BucklerError: An attribute is malformed, unknown, repeated or missing.
    """
    if not text.startswith(SCHEME):
        raise BucklerError(f"expected a URI that begins with {SCHEME}")
    path, _, query = text.removeprefix(SCHEME).partition("?")
    conditions = _attributes(path, ";", _PATH, _PATH_VALUE)
    access = _attributes(query, "&", _QUERY, _QUERY_VALUE)
    if _text(conditions, "type") not in (None, "private"):
        raise _malformed("expected type=private, or no type")
    if not conditions.keys() & {"token", "serial"}:
        raise _malformed("expected the token: token=LABEL or serial=NUMBER")
    if not conditions.keys() & {"object", "id"}:
        raise _malformed("expected the key: object=LABEL or id=BYTES")
    return KeyUri(
        module=_absolute(_required(access, "module-path"), "module-path"),
        pin_file=_absolute(_file(_required(access, "pin-source")), "pin-source"),
        token=_text(conditions, "token"),
        serial=_text(conditions, "serial"),
        label=_text(conditions, "object"),
        id=conditions.get("id"),
    )


def _attributes(part: str, separator: str, known: tuple[str, ...], pattern: re.Pattern[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for place, entry in enumerate(part.split(separator) if part else (), start=1):
        name, equals, value = entry.partition("=")
        if name == "pin-value":
            raise _malformed("a PIN in the URI is visible to others; write it to a file and name that in pin-source")
        if not equals:
            raise _malformed(f"part {place} between {separator!r} is not NAME=VALUE")
        if name not in known:
            # A name that is not one may be a misplaced PIN.
            shown = repr(name) if re.fullmatch(r"[a-z][a-z-]*", name) else "another name"
            raise _malformed(f"expected the attributes {', '.join(known)} here, got {shown}")
        if name in found:
            raise _malformed(f"{name} is named twice")
        if not pattern.fullmatch(value):
            raise _malformed(f"the value of {name} has a character that must be percent-encoded, or a wrong %XX")
        if not value:
            raise _malformed(f"the value of {name} is empty")
        found[name] = unquote_to_bytes(value)
    return found


def _required(attributes: dict[str, bytes], name: str) -> str:
    value = _text(attributes, name)
    if value is None:
        raise _malformed(f"{name} is missing")
    return value


def _text(attributes: dict[str, bytes], name: str) -> str | None:
    try:
        value = attributes[name].decode() if name in attributes else None
    except UnicodeDecodeError:
        value = "\0"
    if value is not None and not value.isprintable():
        raise _malformed(f"the value of {name} is not printable text in UTF-8")
    return value


def _file(source: str) -> str:
    """Return the path in a ``pin-source``: ``file:/PATH``, ``file:///PATH`` or ``/PATH``."""
    path = source.removeprefix("file:")
    return path.removeprefix("//") if path.startswith("///") else path


def _absolute(path: str, name: str) -> Path:
    # A relative module is searched in the library path of the process, which others may set.
    if not path.startswith("/") or path.startswith("//"):
        raise _malformed(f"expected {name} to name a file by its absolute path")
    return Path(path)


def _malformed(problem: str) -> BucklerError:
    return BucklerError(f"malformed {SCHEME} URI: {problem}; expected {_EXAMPLE}")
