"""Tokens of SoftHSM, a PKCS#11 module in software, in a directory of their own."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pkcs11

from tests.absent import absent

PIN, SO_PIN = "471100", "815815"
CONFIGURATION = "SOFTHSM2_CONF"
_PLACES = ("usr/lib/softhsm", "usr/lib/*/softhsm", "usr/lib64/softhsm", "usr/local/lib/softhsm")


def module() -> Path:
    """Return the path of SoftHSM's library."""
    found = [path for place in _PLACES for path in Path("/").glob(f"{place}/libsofthsm2.so")]
    if not found:
        absent("SoftHSM's library is missing; install Debian's package softhsm2")
    return found[0]


@dataclass(frozen=True, slots=True)
class SoftHSM:
    """A directory of tokens."""

    root: Path

    @property
    def configuration(self) -> Path:
        return self.root / "softhsm2.conf"

    @property
    def tokens(self) -> Path:
        return self.root / "tokens"

    def configure(self) -> Path:
        """Write the configuration and return its path."""
        self.tokens.mkdir(parents=True, exist_ok=True)
        self.configuration.write_text(f"directories.tokendir = {self.tokens}\nlog.level = ERROR\n")
        return self.configuration

    def add_token(self, label: str) -> None:
        """Initialise another token."""
        if shutil.which("softhsm2-util") is None:
            absent("softhsm2-util is missing; install Debian's package softhsm2")
        command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SO_PIN]
        environment = os.environ | {CONFIGURATION: str(self.configuration)}
        subprocess.run(command, check=True, capture_output=True, timeout=60, env=environment)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Take all tokens away, as when a module loses its connection, and bring them back."""
        aside = self.root / "away"
        self.tokens.rename(aside)
        self.tokens.mkdir()
        pkcs11.lib(str(module().resolve())).reinitialize()
        try:
            yield
        finally:
            self.tokens.rmdir()
            aside.rename(self.tokens)

    def uri(self, token: str, label: str = "promotion", *, pin: str = PIN) -> str:
        """Return the URI of a key; its PIN is in a file beside the tokens."""
        file = self.root / f"pin-of-{token}"
        if not file.exists() or file.read_text() != f"{pin}\n":
            file.write_text(f"{pin}\n")
        return f"pkcs11:token={token};object={label}?module-path={module()}&pin-source=file:{file}"
