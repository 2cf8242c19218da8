import pytest

from buckler.watch import jobs


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def job(here, monkeypatch):
    """A function that replaces the job ``reevaluate`` by another one."""

    def replace(function):
        monkeypatch.setitem(jobs.LOADERS, "reevaluate", lambda: function)

    return replace
