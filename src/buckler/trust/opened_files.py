"""Reads a directory so that the bytes that are used are the bytes that were hashed.

Whoever can write to the directory can change a file after it was verified: write into it, truncate it, rename another
file over it, or put a link in its place. Therefore each file is opened once, and every read goes through its
descriptor, into memory, where it is hashed before it is used. A file whose content differs from what was hashed before
is refused. Nothing may map such a file: a mapping changes with the file.
"""

import errno
import hashlib
import os
import stat
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from buckler.errors import FilesChangedError, VerdictError

# A release has about twenty files, the largest of about 100 MB. Each opened file takes a descriptor of the process.
MAX_FILES = 100
MAX_FILE_BYTES = 4 * 2**30
MAX_DEPTH = 8
_CHUNK_BYTES = 2**20
# NONBLOCK: a FIFO that replaces a file between two calls must not block.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class OpenedFiles:
    """The files below a directory, each of them opened once.

    Symbolic links, devices, FIFOs and sockets are not opened; ``digests`` refuses a directory that contains one.
    The directory itself may be a link, which is followed once.

    Attributes:
        path: The directory, for messages.
    """

    def __init__(self, path: Path, descriptors: Mapping[str, int], refused: tuple[str, ...] = ()) -> None:
        """Take over ``descriptors``, by relative posix path, and ``refused``, what was found but not opened."""
        self.path = path
        self._descriptors = dict(sorted(descriptors.items()))
        self._refused = refused
        self._digests: dict[str, str] = {}
        self._closing = weakref.finalize(self, _close, tuple(descriptors.values()))

    @classmethod
    def of(cls, path: Path) -> "OpenedFiles":
        """Open every file below the directory ``path``.

        Raises:
            VerdictError: There is no such directory (``missing``).
            OSError: A file cannot be opened.
        """
        try:
            root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise VerdictError("missing", f"expected a directory {path}, there is none") from error
        found = _Search()
        try:
            found.run(root, PurePosixPath())
        except BaseException:
            _close(tuple(found.descriptors.values()))
            raise
        finally:
            os.close(root)
        return cls(path, found.descriptors, tuple(found.refused))

    @classmethod
    def none(cls, path: Path) -> "OpenedFiles":
        """Return the files of a directory ``path`` that does not exist."""
        return cls(path, {})

    def close(self) -> None:
        """Close the files; nothing can be read any more. It happens by itself when the object is deleted."""
        self._closing()
        self._descriptors.clear()

    @property
    def names(self) -> tuple[str, ...]:
        """Relative posix paths of the opened files, sorted."""
        return tuple(self._descriptors)

    @property
    def digests(self) -> dict[str, str]:
        """Relative posix path -> ``sha256:…`` of every file, sorted.

        Raises:
            VerdictError: An entry is neither a file nor a directory, or a limit is exceeded (``digest``).
            OSError: A file cannot be read.
        """
        self._check()
        for name, descriptor in self._descriptors.items():
            if name not in self._digests:
                self._digests[name] = _hashed(_chunks(descriptor))
        return {name: self._digests[name] for name in self._descriptors}

    def read(self, name: str, *, limit: int = MAX_FILE_BYTES) -> bytes:
        """Return the content of a file, which is hashed in memory before it is returned.

        Args:
            name: Its relative posix path.
            limit: Largest size in bytes; for a file that nobody has verified yet.

        Raises:
            FilesChangedError: The content differs from what was read before.
            VerdictError: The file was not opened because it is a link, or it is too large (``digest``).
            FileNotFoundError: There is no such file.
            OSError: The file cannot be read.
        """
        if name not in self._descriptors:
            self._check()
            raise FileNotFoundError(f"no {name} in {self.path}")
        content = _content(self._descriptors[name], limit)
        found = _hashed([content])
        if self._digests.setdefault(name, found) != found:
            raise FilesChangedError(f"{self.path / name} was changed after it was verified")
        return content

    def __truediv__(self, name: str) -> "OpenedLocation":
        """Return the location ``name`` below the directory."""
        return OpenedLocation(self, PurePosixPath(name))

    def _check(self) -> None:
        if not self._closing.alive:
            raise ValueError(f"the files in {self.path} were closed; use them before the release is given back")
        if self._refused:
            listed = ", ".join(sorted(set(self._refused)))
            raise VerdictError("digest", f"expected only files and directories in {self.path}, got {listed}")


@dataclass(frozen=True, slots=True)
class OpenedLocation:
    """A place among opened files, read like a `pathlib.Path`; see `buckler.state.locations.Location`.

    Attributes:
        files: The opened files.
        place: Relative to their directory.
    """

    files: OpenedFiles
    place: PurePosixPath

    @property
    def name(self) -> str:
        """Last part of its path."""
        return self.place.name

    @property
    def parent(self) -> "OpenedLocation":
        """The directory that contains it."""
        return OpenedLocation(self.files, self.place.parent)

    def __truediv__(self, name: str, /) -> "OpenedLocation":
        """Return the location ``name`` below it."""
        return OpenedLocation(self.files, self.place / name)

    def __str__(self) -> str:
        return str(self.files.path / self.place)

    def with_suffix(self, suffix: str) -> "OpenedLocation":
        """Return the location beside it whose name ends in ``suffix`` instead of its own suffix."""
        return OpenedLocation(self.files, self.place.with_suffix(suffix))

    def exists(self) -> bool:
        """Return whether it is an opened file or a directory with one."""
        return any(self.place in (place, *place.parents) for place in map(PurePosixPath, self.files.names))

    def read_bytes(self) -> bytes:
        """Return the content of the file; see `OpenedFiles.read`."""
        return self.files.read(str(self.place))


@contextmanager
def opened(directory: Path | OpenedFiles) -> Iterator[OpenedFiles]:
    """Yield the files of a directory; if they are opened here, they are closed at the end.

    Raises:
        VerdictError: As `OpenedFiles.of`.
    """
    if isinstance(directory, OpenedFiles):
        yield directory
        return
    files = OpenedFiles.of(directory)
    try:
        yield files
    finally:
        files.close()


class _Search:
    """Opens the files of a directory.

    Attributes:
        descriptors: The opened files, by relative path.
        refused: What was found but not opened.
    """

    def __init__(self) -> None:
        self.descriptors: dict[str, int] = {}
        self.refused: list[str] = []

    def run(self, directory: int, place: PurePosixPath) -> None:
        """Open the files in the opened ``directory`` and below it; ``place`` is its relative path."""
        with os.scandir(directory) as entries:
            for entry in entries:
                if len(self.descriptors) + len(self.refused) >= MAX_FILES:
                    self.refused.append(f"more than {MAX_FILES} files")
                    return
                self._open(entry.name, directory, place / entry.name)

    def _open(self, name: str, directory: int, place: PurePosixPath) -> None:
        if problem := _unnameable(place):
            self.refused.append(problem)
            return
        # Without opening it: to open a device can have effects.
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            self.refused.append(_foreign(place, mode))
            return
        try:
            descriptor = os.open(name, _FLAGS, dir_fd=directory)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):
                raise
            self.refused.append(f"{place}, which was replaced by a link or socket while it was opened")
            return
        self._take(descriptor, place)

    def _take(self, descriptor: int, place: PurePosixPath) -> None:
        state = os.fstat(descriptor)
        if stat.S_ISREG(state.st_mode) and state.st_size <= MAX_FILE_BYTES:
            self.descriptors[str(place)] = descriptor
            return
        try:
            if stat.S_ISDIR(state.st_mode):
                self.run(descriptor, place)
            elif stat.S_ISREG(state.st_mode):
                self.refused.append(f"{place} of {state.st_size} bytes, more than {MAX_FILE_BYTES}")
            else:
                self.refused.append(_foreign(place, state.st_mode))
        finally:
            os.close(descriptor)


def _unnameable(place: PurePosixPath) -> str | None:
    if len(place.parts) > MAX_DEPTH:
        return f"more than {MAX_DEPTH} nested directories"
    try:
        str(place).encode()
    except UnicodeEncodeError:
        return f"a name that is not UTF-8: {os.fsencode(str(place))!r}"
    return None


def _foreign(place: PurePosixPath, mode: int) -> str:
    kind = "symbolic link" if stat.S_ISLNK(mode) else "special file"
    return f"the {kind} {place} (replace it by a copy)"


def _chunks(descriptor: int) -> Iterator[bytes]:
    position = 0
    while chunk := os.pread(descriptor, _CHUNK_BYTES, position):
        yield chunk
        position += len(chunk)
        if position > MAX_FILE_BYTES:  # it grows while it is read
            raise VerdictError("digest", f"expected files of at most {MAX_FILE_BYTES} bytes, got a larger one")


def _content(descriptor: int, limit: int) -> bytes:
    size = os.fstat(descriptor).st_size
    if size > limit:
        raise VerdictError("digest", f"expected a file of at most {limit} bytes, got {size}")
    parts, position = [], 0
    while position < size and (part := os.pread(descriptor, size - position, position)):
        parts.append(part)
        position += len(part)
    return b"".join(parts)  # one part, usually, which is not copied


def _hashed(chunks: Iterator[bytes] | list[bytes]) -> str:
    found = hashlib.sha256()
    for chunk in chunks:
        found.update(chunk)
    return f"sha256:{found.hexdigest()}"


def _close(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
