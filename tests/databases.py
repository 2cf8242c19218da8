"""A private PostgreSQL for tests: a cluster of its own, on loopback, with a password, gone afterwards."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import free_port
from tests.absent import absent

USER, PASSWORD = "buckler", "s3cret-of-the-test"


@dataclass(frozen=True)
class Postgres:
    """A cluster that can be stopped and started again at the same address."""

    directory: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.directory} -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-D", self._data, "-l", str(self.directory / "log"), "-o", options)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", self._data)

    def create(self) -> None:
        secret = self.directory / "password"
        secret.write_text(PASSWORD)
        self._run("initdb", "-D", self._data, "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync")

    @property
    def _data(self) -> str:
        return str(self.directory / "data")

    def _run(self, program: str, *arguments: str) -> None:
        # PostgreSQL refuses to run as root; Debian's package brings a user of its own.
        user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        done = subprocess.run(
            [binary(program), *arguments], cwd=self.directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **user
        )
        assert done.returncode == 0, done.stdout.decode()


def binary(program: str) -> str:
    """Return the path of one of PostgreSQL's programs; where they are not installed, fail in CI and skip elsewhere."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))  # not on the path
    found = str(debian[-1]) if debian else shutil.which(program)
    if found is None:
        absent(f"{program} is not installed; on Debian: apt install postgresql")
    return found


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a cluster and remove it; not below pytest's own directory, which another user cannot enter."""
    with tempfile.TemporaryDirectory(prefix="buckler-postgres-", ignore_cleanup_errors=True) as directory:
        if os.getuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(directory, owner.pw_uid, owner.pw_gid)
        server = Postgres(Path(directory), free_port())
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()
