from dataclasses import replace

import pytest

from buckler import watch
from tests.unit.watch import made


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def job(here, monkeypatch):
    """Make ``reevaluate`` do what the test says."""

    def become(function):
        monkeypatch.setattr(made, "current", function)
        doing = replace(watch.JOBS["reevaluate"], run="tests.unit.watch.made:current")
        monkeypatch.setitem(watch.JOBS, "reevaluate", doing)

    return become
