"""What readers need of a place to read from, so that the same code reads a directory and an opened release."""

from typing import Protocol


class Location(Protocol):
    """A file or directory that can be read: a `pathlib.Path`, or a `buckler.trust.opened_files.OpenedLocation`."""

    @property
    def name(self) -> str:
        """Last part of its path."""
        ...

    @property
    def parent(self) -> "Location":
        """The directory that contains it."""
        ...

    def __truediv__(self, name: str, /) -> "Location":
        """Return the location ``name`` below it."""
        ...

    def with_suffix(self, suffix: str) -> "Location":
        """Return the location beside it whose name ends in ``suffix`` instead of its own suffix."""
        ...

    def exists(self) -> bool:
        """Return whether there is such a file or directory."""
        ...

    def read_bytes(self) -> bytes:
        """Return the content of the file.

        Raises:
            OSError: There is no such file, or it cannot be read.
        """
        ...
