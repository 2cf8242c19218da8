from dataclasses import asdict

import pytest

from buckler import params, watch
from buckler.errors import ParamsError
from tests.unit.watch import made


def parsed(**changes):
    return params.parse("watch", watch.WatchParams, {**made.as_section(made.watching()), **changes})


def test_the_section_of_params_is_read_and_speaks_of_every_job():
    cfg = params.load("watch", watch.WatchParams)
    assert set(cfg.jobs) == set(cfg.policy) == set(watch.JOBS)
    assert not cfg.promote


def test_a_job_without_a_schedule_or_a_policy_is_named():
    with pytest.raises(ParamsError, match=r"expected policy for .*'reevaluate'\], got \['dance'\]"):
        parsed(policy={"dance": ["alert"]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"retires": 2}, "retires"),
        ({"limit_seconds": 0}, "limit_seconds and misfire_grace_seconds of at least 1"),
        ({"retries": -1}, "of at least 0"),
    ],
)
def test_a_job_whose_settings_cannot_be_meant_is_refused(changes, message):
    jobs = {name: {**asdict(made.job()), **changes} for name in watch.JOBS}
    with pytest.raises(ParamsError, match=message):
        parsed(jobs=jobs)


def test_an_action_that_there_is_not_is_refused():
    with pytest.raises(ParamsError, match="'alert', 'degrade', 'rollback' or 'stop'"):
        parsed(policy={name: ["pray"] for name in watch.JOBS})


def test_the_key_comes_from_the_environment_or_a_file_or_there_is_none(here, monkeypatch):
    cfg = made.watching()
    assert cfg.key() is None
    (here / "watch.key").write_text("from-file\n")
    assert cfg.key() == "from-file"
    monkeypatch.setenv("BUCKLER_WATCH_KEY", "from-environment")
    assert cfg.key() == "from-environment"


def test_the_address_of_the_service_can_be_given_from_outside(monkeypatch):
    assert made.watching().address == "http://127.0.0.1:1"
    monkeypatch.setenv("BUCKLER_WATCH_SERVICE_URL", "http://service:3000")
    assert made.watching().address == "http://service:3000"
