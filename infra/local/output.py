"""The output of `dvc repro`: its lines without DVC's messages, and the progress bar that was drawn last."""

import codecs
import re
from dataclasses import dataclass

# As tqdm draws it; the spaces behind it cover what a longer bar left.
BAR = re.compile(r"(?P<title>[^|]*?):? +(?P<percent>\d+)%\|[^|]*\|[^\[]*\[[^\]]*\] *")
STAGE = re.compile(r"(Running stage|Stage) '(?P<name>[^']+)'(?P<skipped>:| didn't change| is cached)")
# What DVC, MLflow and the quantisation print whatever happens, and advice that leads nowhere in a demo.
NOISE = re.compile(
    r"^(> pipelines/run \w+|(Generating|Updating) lock file .*|To track the changes with git, run:|\tgit add .*"
    r"|To enable auto staging, run:|\tdvc config core\.autostage true|Use `dvc push` .*"
    r"|Data and pipelines are up to date\.|WARNING: '.*' is empty\.|.*━.*"
    r"|Successfully registered model .*|Registered model .* already exists\..*|Created version .* of model .*|\s*)$"
)


@dataclass(frozen=True, slots=True)
class Bar:
    """A progress bar as it was drawn last."""

    title: str
    percent: int


class Output:
    """Divides the bytes of a process into lines and progress bars.

    Attributes:
        bar: The bar that stands at the end of the output so far, or None.
    """

    def __init__(self) -> None:
        self.bar: Bar | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that ``data`` completes, without bars and noise."""
        *ended, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        if ended:
            self.bar = None
        if found := BAR.match(self._rest.rpartition("\r")[2]):
            self.bar = Bar(found["title"], int(found["percent"]))
        lines = [_without_bar(line) for line in ended]
        return [line for line in lines if not NOISE.match(line)]

    def end(self) -> list[str]:
        """Return what was written after the last line break."""
        return self.feed(b"\n")


def _without_bar(line: str) -> str:
    """Return what a terminal would show of ``line`` at the end; a message may stand right behind a bar."""
    return BAR.sub("", line.rstrip("\r").rpartition("\r")[2])
