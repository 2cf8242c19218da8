"""Reads folders that others fill, such as a supplier's pictures: nothing outside the folder can be reached from it."""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from buckler.data import leftovers
from buckler.data.names import is_readable
from buckler.errors import DataError

_NO_LINKS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Skipped:
    """An entry that is not read: its path ``name`` relative to the root, with a slash behind a folder, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder whose contents are refused unless they are folders and regular files with readable names.

    A symbolic link in it may lead to any file of this machine, such as a private key, which would be copied with the
    pictures. Entries for which `leftovers.reason` has a reason are skipped, and `skipped` names them. ``root`` itself
    may be a link: the operator names it.
    """

    root: Path

    def folders(self) -> list[str]:
        """Return the names of the folders directly below, sorted.

        Raises:
            DataError: An entry is a link, a special file or has an unreadable name, or the folder cannot be read.
        """
        return sorted(entry.name for entry in self._entries("") if entry.is_dir(follow_symlinks=False))

    def names(self) -> list[str]:
        """Return the names of the files directly below, sorted; errors as for ``folders``."""
        return [entry.name for entry in self._entries("") if entry.is_file(follow_symlinks=False)]

    def files(self, folder: str) -> Iterator[str]:
        """Yield the paths of all files below ``folder``, relative to the root.

        Raises:
            DataError: As for ``folders``.
        """
        for entry in self._entries(folder):
            name = f"{folder}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from self.files(name)
            else:
                yield name

    def skipped(self, folder: str = "") -> Iterator[Skipped]:
        """Yield the entries below ``folder`` that the other methods skip; errors as for ``folders``."""
        for entry in self._listed(folder):
            name, is_folder = f"{folder}/{entry.name}".removeprefix("/"), entry.is_dir(follow_symlinks=False)
            if reason := leftovers.reason(entry.name, folder=is_folder):
                yield Skipped(_shown(name) + "/" * is_folder, reason)
            elif is_folder:
                yield from self.skipped(name)

    def read(self, name: str) -> bytes:
        """Return the bytes of the file ``name``; a link that has replaced a part of its path is not followed.

        Raises:
            DataError: There is no such regular file, or it cannot be read.
        """
        *folders, last = PurePosixPath(name).parts
        with ExitStack() as opened:
            try:
                place = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                opened.callback(os.close, place)
                for each in folders:
                    place = os.open(each, _NO_LINKS | os.O_DIRECTORY, dir_fd=place)
                    opened.callback(os.close, place)
                # Opening a pipe would otherwise wait for its writer.
                file = opened.enter_context(os.fdopen(os.open(last, _NO_LINKS | os.O_NONBLOCK, dir_fd=place), "rb"))
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise DataError(_refused(self.root, name, "a special file"))
                return file.read()
            except OSError as error:
                raise DataError(
                    f"expected a readable file, not a link, at {name!r} in {self.root}: {error.strerror}"
                ) from error

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        entries = [
            entry
            for entry in self._listed(folder)
            if not leftovers.reason(entry.name, folder=entry.is_dir(follow_symlinks=False))
        ]
        for entry in entries:
            self._check(entry, f"{folder}/{entry.name}".removeprefix("/"))
        return entries

    def _listed(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.root / folder) as found:
                return sorted(found, key=lambda each: each.name)
        except OSError as error:
            raise DataError(f"expected a readable folder at {self.root / folder}: {error.strerror}") from error

    def _check(self, entry: os.DirEntry[str], name: str) -> None:
        if not is_readable(entry.name):
            raise DataError(
                f"expected file names in UTF-8 without control characters in {self.root}, got {_escaped(name)}; rename "
                "it, or convert the names with `convmv -f latin1 -t utf8`"
            )
        if entry.is_symlink():
            raise DataError(_refused(self.root, name, f"a symbolic link to {str(Path(entry.path).readlink())!r}"))
        if not (entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)):
            raise DataError(_refused(self.root, name, "a special file"))


def _escaped(name: str) -> str:
    return repr(os.fsencode(name)).removeprefix("b")


def _shown(name: str) -> str:
    return name if is_readable(name) else _escaped(name)


def _refused(root: Path, name: str, found: str) -> str:
    return (
        f"expected only folders and regular files in {root}, got {found} at {name!r}; replace it by a copy, if its "
        "content belongs there, or remove it"
    )
