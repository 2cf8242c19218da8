"""The highest signed record of a model that a process has seen: reveals a journal or a registry that was put back."""

from pathlib import Path

from buckler.errors import VerdictError
from buckler.state import files
from buckler.trust import signed
from buckler.trust.public_keys import PublicKeys
from buckler.trust.signed import SignedRecord


class KeptHead:
    """A file with the highest record; a damaged file, or a record without a valid signature, counts as none.

    Args:
        path: The file; the first record creates it and its directory.
        model: Name of the model.
        registry: Id of the registry.
    """

    def __init__(self, path: Path, *, model: str, registry: str) -> None:
        self._path, self._model, self._registry = path, model, registry

    def highest(self, keys: PublicKeys) -> int:
        """Return the number of the highest record that ``keys`` verify; 0 without one."""
        found = self.record(keys)
        return found.record.sequence if found else 0

    def record(self, keys: PublicKeys) -> SignedRecord | None:
        """Return the highest record that ``keys`` verify; None without one."""
        try:
            return self._read(self._path.read_text(encoding="utf-8"), keys)
        except (OSError, ValueError, VerdictError):
            return None

    def keep(self, text: str, keys: PublicKeys) -> None:
        """Keep the record in ``text`` if it is valid and higher than the kept one.

        Raises:
            OSError: The file cannot be written.
        """
        try:
            found = self._read(text, keys)
        except VerdictError:
            return
        if found.record.sequence > self.highest(keys):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            files.write(self._path, text.encode())

    def _read(self, text: str, keys: PublicKeys) -> SignedRecord:
        return signed.read(text, keys, model=self._model, registry=self._registry)
