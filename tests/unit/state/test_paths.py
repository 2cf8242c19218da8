"""Default paths are defined in one module and relative to the working directory."""

import re
from pathlib import Path

from buckler.state import paths

ROOT = Path(__file__).parents[3]
# A string that begins a path below the state directory; docstrings and help texts may mention such paths.
PATH = re.compile(r"""["'/]\.buckler(?:["'/]|$)""")


def test_no_other_module_names_a_path_below_the_state_directory():
    folders = ("src", "services", "pipelines", "infra", "drills", "benchmarks")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    naming = [path.relative_to(ROOT) for path in sources if PATH.search(path.read_text())]
    assert naming == [Path("src/buckler/state/paths.py")]


def test_paths_are_distinct_and_below_the_state_directory():
    places = {name: value for name, value in vars(paths).items() if isinstance(value, Path)}
    assert len(set(places.values())) == len(places)
    assert all(place.is_relative_to(".buckler") for place in places.values())
