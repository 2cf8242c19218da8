"""The newest accepted standing of each version, in memory and on disk.

An older standing never replaces a newer one, and a deleted tag changes nothing: write access to the registry alone
must not be enough to lift a job's objection to a version.
"""

import json
import logging
import threading
from dataclasses import replace
from pathlib import Path

from buckler.serving.assessment import Reason, newest_standing
from buckler.serving.version import Version
from buckler.state import files
from buckler.trust.public_keys import PublicKeys, TrustedKeys
from buckler.trust.standing import Standing
from services.classifier.releases import lookup
from services.classifier.settings import Settings

FILE = "standings.json"
KEEP = 16  # versions

logger = logging.getLogger("buckler.service")


class StandingCache:
    """The newest standing of each version of one model."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._name, self._path = settings, settings.model_name, settings.releases_dir / FILE
        self._texts: dict[str, str] = {}
        self._newest: dict[str, Standing] = {}
        self._refused: tuple[str, str] | None = None
        self._keys: PublicKeys | None = None
        self._lock = threading.Lock()  # one thread follows releases, one standings

    def of(self, version: str, keys: TrustedKeys) -> Standing | None:
        """Return the newest accepted standing of ``version``; None without one."""
        with self._lock:
            self._use_keys(keys)
            return self._newest.get(version)

    def accept(self, entry: Version, keys: TrustedKeys) -> tuple[Reason, ...]:
        """Store the standing of an entry; return why it is ignored, once for each text."""
        with self._lock:
            return self._accept(entry, keys)

    def _accept(self, entry: Version, keys: TrustedKeys) -> tuple[Reason, ...]:
        self._use_keys(keys)
        version, text = entry.version, entry.standing
        if not text or self._texts.get(version) == text or self._refused == (version, text):
            return ()
        self._refused = (version, text)
        found, reasons = newest_standing(entry, keys, self._newest.get(version))
        if found is None or reasons:
            return reasons
        self._texts[version], self._newest[version], self._refused = text, found, None
        self._keep()
        return ()

    def _use_keys(self, keys: TrustedKeys) -> None:
        """Read the file again when the keys change; only standings that ``keys`` verify count."""
        if self._keys == keys.promotion:
            return
        self._keys, self._texts, self._newest, self._refused = keys.promotion, {}, {}, None
        for version, text in _read(self._path, self._name).items():
            entry = replace(lookup.entry_of(version, self._settings), standing=text)
            found, _ = newest_standing(entry, keys)
            if found is not None:
                self._newest[version], self._texts[version] = found, text

    def _keep(self) -> None:
        others = _read(self._path, self._name)  # another worker may have stored other versions
        latest = sorted((others | self._texts).items(), key=lambda item: int(item[0]) if item[0].isdecimal() else 0)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            content = {"model": self._name, "standings": dict(latest[-KEEP:])}
            files.write(self._path, json.dumps(content).encode())
        except OSError as error:  # a full disk must not stop the follower
            logger.warning("cannot store the standing for the next restart: %s", error)


def _read(path: Path, name: str) -> dict[str, str]:
    try:
        content = json.loads(path.read_bytes())
        standings = content["standings"] if content["model"] == name else {}
        return {str(version): str(text) for version, text in standings.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
