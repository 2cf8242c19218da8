"""Runs drills on real processes: `python -m drills [--suite service|watch|trust] [--only NAME] [--short]`.

Needs a project whose pipeline has run (`make demo`). Each drill has its own registry, signing key and service in a
temporary directory. A whole suite at full length writes docs/results/drill_SUITE.json.
Exit codes: 0 all drills passed; 1 a drill failed; 2 a drill could not run.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import chdir
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is first imported

from benchmarks import results
from buckler.compute.machine import machine
from buckler.errors import BucklerError
from buckler.release import bundle
from buckler.state import proxies
from drills import processes, releases, report, watch
from drills.registry import DrillError, ReleaseBuilder, ScratchRegistry
from drills.report import Drill
from drills.scene import FULL, SHORT, DrillScene, Scale
from drills.trust.cache_writer import cache_writer
from drills.trust.disk_writer import disk_writer
from drills.trust.insider import insider
from drills.trust.registry_writer import registry_writer
from drills.trust.replaced_keys import replaced_keys
from drills.trust.store_writer import store_writer
from drills.trust.wire import wire

SUITES: dict[str, dict[str, Callable[[DrillScene, Drill], None]]] = {
    "service": {
        "swap": releases.swap,
        "kill_worker": processes.kill_worker,
        "kill_promotion": releases.kill_promotion,
        "tampering": releases.tampering,
        "disk_full": processes.disk_full,
        "overload": processes.overload,
        "memory": processes.memory,
    },
    "watch": {
        "moved_by_hand": watch.moved_by_hand,
        "verdict_expires": watch.verdict_expires,
        "query_attack": watch.query_attack,
        "drift": watch.drift,
        "reevaluation_fails": watch.reevaluation_fails,
        "watch_killed": watch.watch_killed,
    },
    "trust": {
        "registry_writer": registry_writer,
        "store_writer": store_writer,
        "cache_writer": cache_writer,
        "disk_writer": disk_writer,
        "insider": insider,
        "replaced_keys": replaced_keys,
        "wire": wire,
    },
}
DRILLS = {name: drill for suite in SUITES.values() for name, drill in suite.items()}


def run(name: str, project: Path, scale: Scale) -> Drill:
    """Run one drill on the model of ``project`` and return its results."""
    drill = Drill(name)
    with tempfile.TemporaryDirectory(prefix=f"buckler-drill-{name}-") as scratch:
        directory = Path(scratch)
        builder = ReleaseBuilder(project.resolve(), directory / "releases")
        registry = ScratchRegistry(directory / "registry", builder.key, builder.promotion_key)
        before = dict(os.environ)
        os.environ.update(registry.env)
        try:
            with chdir(registry.root):  # promotions write their locks and artifacts there
                DRILLS[name](DrillScene(scale, directory, builder, registry), drill)
        except DrillError as error:
            drill.failures.append(str(error))
        finally:
            os.environ.clear()
            os.environ.update(before)
    return drill


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, run the drills, write the report and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--suite", choices=SUITES, default="service")
    parser.add_argument("--only", choices=DRILLS, action="append", help="repeatable; default: all of the suite")
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes: only shows that drills work")
    parser.add_argument("--project", type=Path, default=Path(), help="default: this directory")
    parser.add_argument("--report", type=Path, help="default: reports/drills-SUITE.json")
    arguments = parser.parse_args(argv)
    proxies.exempt_loopback()
    path = arguments.report or Path(f"reports/drills-{arguments.suite}.json")
    source = bundle.source_of(Path.cwd())
    where = {"machine": machine(), "commit": source.commit, "dirty": source.dirty}
    done: list[Drill] = []
    try:
        for name in arguments.only or SUITES[arguments.suite]:
            print(f"== {name}", flush=True)
            done.append(run(name, arguments.project, SHORT if arguments.short else FULL))
            report.write(done, path, where)
            _print(done[-1])
    except BucklerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not (arguments.only or arguments.short):
        name = f"drill_{arguments.suite}"
        results.new(name, f"make drill-{arguments.suite}", report.tables(done)).write()
    print(f"{sum(drill.passed for drill in done)} of {len(done)} passed; figures in {path}")
    return 0 if all(drill.passed for drill in done) else 1


def _print(drill: Drill) -> None:
    for attack in drill.attacks:
        seconds = "" if attack.seconds is None else f" after {attack.seconds} s"
        print(f"  {attack.name}: {attack.stopped_by or 'nobody'}, {attack.code}{seconds}")
    for name, value in drill.figures.items():
        print(f"  {name:<36} {value}")
    for failure in drill.failures:
        print(f"  FAILED: {failure}")


if __name__ == "__main__":
    sys.exit(main())
