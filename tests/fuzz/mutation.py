"""Changes of inputs along their structure: of the parts of a file, and of the values of a JSON document."""

import json
import random
from collections.abc import Callable
from typing import Any

Mutator = Callable[[bytes, int, int], bytes]  # from an input, the largest size and a seed

INTERESTING: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *(
        "",
        "x",
        "\ud800",
        "é",
        "sha256:",
        "sha256:" + 64 * "0",
        "0001-01-01T00:00:00+00:00",
        "9999-12-31T23:59:59-23:59",
    ),
    *([], {}, [[]], [{}], {"": None}),
)
DEEPEST = 1_200


def random_bytes(data: bytes, most: int) -> bytes:
    """Return ``data`` after a change by libFuzzer."""
    import atheris  # only fuzzers have it loaded

    changed: bytes = atheris.Mutate(data, max(1, most))
    return changed


def of_parts(split: Callable[[bytes], list[bytes]], join: Callable[[list[bytes]], bytes] = b"".join) -> Mutator:
    """Return a mutator that removes, repeats, moves and changes the parts of a file.

    Args:
        split: Returns the parts; joined, they are the file.
        join: Joins the parts, and corrects what depends on their content, such as checksums.
    """

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        draw = random.Random(seed)
        parts = split(data)
        if len(parts) < 2 or draw.random() < 0.3:
            return random_bytes(data, most)
        place = draw.randrange(len(parts))
        choice = draw.choice(("remove", "repeat", "move", "change", "change", "change"))
        part = parts.pop(place)
        if choice == "repeat":
            parts[place:place] = [part] * draw.choice((2, 2, 3, 9, 100))
        elif choice == "move":
            parts.insert(draw.randrange(len(parts) + 1), part)
        elif choice == "change":
            parts.insert(place, random_bytes(part, max(1, most - len(data) + len(part))))
        return join(parts)[:most]

    return mutate


def of_json(split: Callable[[bytes], tuple[bytes, bytes]] = lambda data: (b"", data)) -> Mutator:
    """Return a mutator that changes values, keys and nesting of a JSON document.

    Args:
        split: Returns what stands before the document, and the document.
    """

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        draw = random.Random(seed)
        before, text = split(data)
        if draw.random() < 0.4:
            return random_bytes(data, most)
        try:
            document = json.loads(text)
            changed = json.dumps(_changed(document, draw), separators=(",", ":")).encode()
        except (ValueError, RecursionError):
            return random_bytes(data, most)
        if draw.random() < 0.02:
            depth = draw.choice((10, 100, 300, 900, 990, DEEPEST))
            changed = changed.replace(b"null", b"[" * depth + b"]" * depth, 1)
        return (before + changed)[:most]

    return mutate


def _changed(value: Any, draw: random.Random) -> Any:
    """Return ``value`` with a change at one place."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        name = draw.choice(list(value))
        choice = draw.random()
        if choice < 0.1:
            return {key: kept for key, kept in value.items() if key != name}
        if choice < 0.15:
            return {**value, draw.choice(("", "x", "\ud800", name + "2")): value[name]}
        return {**value, name: _changed(value[name], draw)}
    if isinstance(value, list) and value and draw.random() < 0.85:
        place = draw.randrange(len(value))
        if draw.random() < 0.2:
            return value[:place] + value[place + 1 :] if draw.random() < 0.5 else [*value, value[place]]
        return [*value[:place], _changed(value[place], draw), *value[place + 1 :]]
    if isinstance(value, str) and draw.random() < 0.5:
        return random_bytes(value.encode("utf-8", "surrogatepass"), 2 * len(value) + 8).decode("utf-8", "replace")
    if isinstance(value, int) and draw.random() < 0.5:
        return value + draw.choice((-1, 1, 2**31, -(2**63)))
    return draw.choice(INTERESTING)
