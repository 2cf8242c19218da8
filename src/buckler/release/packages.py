"""The Python packages of a project: those of its lock file, else those that are installed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

PROJECT = "buckler"  # who needs the direct dependencies

_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)")
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")
_NEEDED_BY = re.compile(r"\s+#\s+(?:via\s+)?([A-Za-z0-9][A-Za-z0-9._-]*)")


@dataclass(frozen=True, slots=True)
class Package:
    """A package in one version.

    Attributes:
        name: Normalised name.
        version: Exact version.
        hashes: ``sha256:…`` of the files of this version that the lock accepts; empty without a lock.
        needed_by: Packages that require it, ``PROJECT`` among them; empty without a lock.
    """

    name: str
    version: str
    hashes: tuple[str, ...] = ()
    needed_by: tuple[str, ...] = ()

    @property
    def purl(self) -> str:
        """Its package URL, by which the bill of materials and infra/vex.json name it."""
        return f"pkg:pypi/{self.name}@{self.version}"


def of_project(lock: Path) -> tuple[Package, ...]:
    """Return the packages in ``lock``, a file of uv or pip-compile; if there is none, the installed ones."""
    try:
        text = lock.read_text(encoding="utf-8")
    except FileNotFoundError:
        return installed()
    return tuple(_read(text))


def _read(text: str) -> Iterator[Package]:
    for block in re.split(r"\n(?=[^\s#])", text):
        if pin := _PIN.match(block):
            needed_by = sorted({normalised(name) for name in _NEEDED_BY.findall(block)} - {"via"})
            yield Package(normalised(pin[1]), pin[2], tuple(_HASH.findall(block)), tuple(needed_by))


def installed() -> tuple[Package, ...]:
    """Return the packages of this Python, without the project itself."""
    found = {normalised(each.name): each.version for each in metadata.distributions()}
    return tuple(Package(name, version) for name, version in sorted(found.items()) if name != PROJECT)


def normalised(name: str) -> str:
    """Return a package's name as PyPI compares it.

    Source: PEP 503.
    """
    return re.sub(r"[-_.]+", "-", name).lower()
