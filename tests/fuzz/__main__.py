"""Fuzzes the parsers of foreign bytes, and runs single inputs.

python -m tests.fuzz TARGET                      fuzz one target for ten minutes; `all` fuzzes one after the other
python -m tests.fuzz TARGET FILE                 run one input, or all files of a directory
python -m tests.fuzz TARGET --minimise           copy what the last runs found into the corpus, as few files as needed
python -m tests.fuzz all --results               fuzz and write docs/results/fuzz.json
python -m tests.fuzz all --seeds                 write the valid inputs into the corpus
"""

import argparse
import sys
from pathlib import Path

from tests.fuzz import engine
from tests.fuzz.replay import inputs, replay
from tests.fuzz.table import TARGETS, Target

SECONDS = 600


def main() -> None:
    """Parse the command line; exit with 1 after a finding."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=[*TARGETS, "all"], help="name of the target")
    parser.add_argument("files", nargs="*", type=Path, help="inputs to run instead of fuzzing")
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"time for each target (default: {SECONDS})")
    parser.add_argument(
        "--corpus", type=Path, default=engine.STATE, help=f"folder of new inputs (default: {engine.STATE})"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the fuzzer (default: 1)")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--results", action="store_true", help="write docs/results/fuzz.json")
    chosen.add_argument("--minimise", action="store_true", help="take over new inputs that reach new code")
    chosen.add_argument("--seeds", action="store_true", help="write the valid inputs into the corpus")
    given = parser.parse_args()
    targets = list(TARGETS.values()) if given.target == "all" else [TARGETS[given.target]]
    sys.exit(_run(given, targets))


def _run(given: argparse.Namespace, targets: list[Target]) -> int:
    if given.seeds:
        from tests.fuzz import seeds

        for target in targets:
            seeds.write(target)
        return 0
    if given.files:
        return _replayed(targets, [path for each in given.files for path in inputs(each)])
    if given.minimise:
        for target in targets:
            print(f"{target.name}: {engine.minimise(target, given.corpus)} files")
        return 0
    runs = []
    for target in targets:
        runs.append(engine.fuzz(target, given.seconds, corpus=given.corpus, seed=given.seed))
        print(runs[-1], flush=True)
    if given.results:
        from tests.fuzz import results

        print(f"wrote {results.document(runs, given.seconds, given.seed).write()}")
    return int(any(run.findings for run in runs))


def _replayed(targets: list[Target], paths: list[Path]) -> int:
    found = [finding for target in targets for finding in replay(target, paths)]
    for finding in found:
        print(finding)
    print(f"{len(paths)} inputs, {len(found)} findings")
    return int(bool(found))


if __name__ == "__main__":
    main()
