"""Commands of Buckler as processes of the signer's machine, which are forked after the imports.

Importing MLflow takes longer than a command, and a drill runs twenty of them.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import servers
from drills.registry import DrillError

PROGRAM = """
import json, os, signal, sys, traceback
import mlflow
from buckler import cli
from buckler.release import promote, recover, tracking
print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 70
        try:
            signal.alarm(180)
            os.environ.clear()
            os.environ.update(order["env"])
            for stream, name in ((1, "output"), (2, "errors")):
                os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
            code = cli.main(order["arguments"])
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 2
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended.

    Attributes:
        code: Its exit code.
        output: What it printed.
        errors: What it printed on the standard error.
    """

    code: int
    output: str
    errors: str


class Commands:
    """Runs `buckler` with arguments, each in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]", directory: Path) -> None:
        self._process, self._directory = process, directory

    def run(self, arguments: tuple[str, ...], env: Mapping[str, str]) -> Done:
        """Run one command with ``env`` as its settings and return its result.

        Raises:
            DrillError: The process that forks the commands has ended.
        """
        output, errors = (self._directory / name for name in ("output", "errors"))
        settings = servers.environment(env)
        order = {"arguments": arguments, "env": settings, "output": str(output), "errors": str(errors)}
        print(json.dumps(order), file=self._process.stdin, flush=True)
        code = _line(self._process)
        return Done(int(code), output.read_text(encoding="utf-8"), errors.read_text(encoding="utf-8"))


@contextmanager
def commands(directory: Path) -> Iterator[Commands]:
    """Run commands in ``directory`` until the context ends."""
    with (
        tempfile.TemporaryDirectory(prefix="buckler-commands-") as scratch,
        (Path(scratch) / "log").open("ab") as log,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        if _line(process) != "ready":
            raise DrillError("the commands of Buckler do not start")
        yield Commands(process, Path(scratch))


def _line(process: "subprocess.Popen[str]") -> str:
    line = process.stdout.readline().strip() if process.stdout else ""
    if not line:
        raise DrillError("the process that runs the commands of Buckler has ended")
    return line
