"""The demo: pipeline, promotion, servers, the story of an attack; prints where the time went and what to do next."""

import subprocess
import sys
from pathlib import Path

from infra.local import pipeline, places, ports, servers, times
from infra.local.places import BIN, LocalError
from infra.local.processes import url
from infra.local.times import PIPELINE, Clock


def run(*, stop: bool, out: Path | None) -> None:
    """Run all steps; leave the servers running unless ``stop``; write times and story into the folder ``out``.

    Raises:
        LocalError: A step failed. Servers that this call started are stopped.
    """
    places.refuse_root()
    clock = Clock()
    with clock.step(PIPELINE):
        stages = pipeline.repro()
    with clock.step("promote"):
        _call(BIN / "buckler", "promote")
    with clock.step("start the servers"):
        started = servers.up()
    told = False
    try:
        with clock.step("ask the service"):
            _call(sys.executable, "-m", "infra.local.story", "--url", url(ports.current()["service"]))
        clock.stop()
        told = True
    finally:
        if stop or not told:
            servers.stop(started)
    print("\n== where the time went")
    print("\n".join(times.table(clock.steps, stages)))
    if out:
        from benchmarks import demo  # loads the libraries of the pipeline
        from infra.local import story

        lines = (places.ROOT / story.OUT / story.TEXT).read_text(encoding="utf-8").splitlines()
        print(f"\nwritten to {demo.write(list(times.rows(clock.steps, stages)), lines, out)}")
    _say_next(running=not stop or not started)


def _call(*command: str | Path) -> None:
    shown = " ".join(str(part) for part in command)
    if code := subprocess.call([str(part) for part in command], cwd=places.ROOT, env=places.environment()):
        raise LocalError(f"`{shown}` ended with exit code {code}; see above")


def _say_next(*, running: bool) -> None:
    if not running:
        print("\nsuccess: the servers are stopped; `make up` starts them and leaves them running")
        return
    inside = BIN.is_relative_to(places.ROOT)
    buckler = (BIN.relative_to(places.ROOT) if inside else BIN) / "buckler"
    print(f"""
success: the servers run on. Next:
  look at the console      {url(ports.current()["console"])}/
  try your own pictures    {buckler} check FOLDER (one folder for each class; docs/how-to/own-pictures.md)
  stop the servers         make down""")
