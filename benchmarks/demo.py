"""Writes the duration of `make demo RESULTS=DIR` to docs/results/demo.json."""

import argparse

from benchmarks import results
from benchmarks.results import Column, Table
from pipelines.stage import stage


def main() -> None:
    """Parse the command line and write the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, required=True, help="from pictures to served answers")
    results.add_options(parser)
    given = parser.parse_args()
    columns = (Column("step", "`make demo`"), Column("seconds", "seconds", ","))
    table = Table(columns, ({"step": "pictures to served answers", "seconds": given.seconds},))
    results.new("demo", "make demo", {"time": table}).write(given.out or results.DIRECTORY)


if __name__ == "__main__":
    stage(main)
