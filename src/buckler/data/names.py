"""Keys of names: people mean the same by two names with equal keys."""

import re
import unicodedata
from typing import Final

_SEPARATORS: Final = re.compile(r"(?<=\w)[\s_-]+(?=\w)")
# What people and programs write where they do not know a value; so is text without any letter or digit.
_UNKNOWN: Final = frozenset(
    {"na", "n a", "nan", "nil", "none", "null", "unk", "unknown", "undefined", "missing", "not available"}
    | {"not applicable", "not known", "tbd", "k a", "unbekannt", "inconnu", "desconocido"}
)

# Line ends and control characters would break lists and terminals; these change the direction of the text around them.
_CONTROLS: Final = frozenset({"Cc", "Zl", "Zp"})
_DIRECTIONS: Final = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def is_readable(name: str) -> bool:
    """Return whether a report can show ``name``; undecodable bytes are surrogates."""
    return not any(
        unicodedata.category(each) in _CONTROLS
        or unicodedata.bidirectional(each) in _DIRECTIONS
        or "\ud800" <= each <= "\udfff"
        for each in name
    )


def class_key(name: str) -> str:
    """Return the key of a class or column: case, blanks, separators of words and Unicode's form do not count."""
    text = "".join(each for each in unicodedata.normalize("NFKC", name) if unicodedata.category(each) != "Cf")
    return _SEPARATORS.sub(" ", unicodedata.normalize("NFC", text.casefold()).strip())


def path_key(path: str) -> tuple[str, ...]:
    """Return the key of each part of ``path``, without parts that name no file, such as ``.``.

    Case, blanks around a part, Unicode's form and ``\\`` for ``/`` do not count.
    """
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold()).replace("\\", "/")
    return tuple(part for each in text.split("/") if (part := each.strip()) not in ("", "."))


def without_suffix(part: str) -> str:
    """Return ``part``, a part of a `path_key`, without the suffix of a file, if it has one."""
    return re.sub(r"(?<=.)\.[^.\s]{1,5}$", "", part)


def is_unknown(value: str) -> bool:
    """Return whether ``value`` says that a value is not known: ``NA``, ``n/a``, ``-``, ``unknown`` or nothing."""
    words = " ".join(re.findall(r"[^\W_]+", value.casefold()))
    return not words or words in _UNKNOWN
