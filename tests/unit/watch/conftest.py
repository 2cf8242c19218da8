import pytest

from buckler.watch import jobs


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def job(here, monkeypatch):
    """Make ``reevaluate`` do what the test says."""

    def become(function):
        monkeypatch.setitem(jobs.LOADERS, "reevaluate", lambda: function)

    return become
