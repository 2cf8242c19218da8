from dataclasses import asdict

import pytest

from buckler import params, watch
from buckler.errors import ParamsError
from tests.unit.watch import made


def parsed(**changes):
    return params.parse("watch", watch.WatchParams, {**made.as_section(made.watching()), **changes})


def test_the_section_of_params_yaml_lists_every_job():
    cfg = params.load("watch", watch.WatchParams)
    assert set(cfg.jobs) == set(cfg.policy) == set(watch.JOBS)
    assert not cfg.promote


def test_an_error_names_the_jobs_that_need_a_policy():
    with pytest.raises(ParamsError, match=r"expected policy for .*'reevaluate'\], got \['dance'\]"):
        parsed(policy={"dance": ["alert"]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"retires": 2}, "retires"),
        ({"limit_seconds": 0}, "limit_seconds and misfire_grace_seconds of at least 1"),
        ({"retries": -1}, "retries: Input should be greater than or equal to 0"),
    ],
)
def test_invalid_settings_of_a_job_are_rejected(changes, message):
    jobs = {name: {**asdict(made.job()), **changes} for name in watch.JOBS}
    with pytest.raises(ParamsError, match=message):
        parsed(jobs=jobs)


def test_an_unknown_action_is_rejected():
    with pytest.raises(ParamsError, match="'alert', 'degrade', 'rollback' or 'stop'"):
        parsed(policy={name: ["pray"] for name in watch.JOBS})


def test_the_key_comes_from_the_environment_else_from_its_file(here, monkeypatch):
    cfg = made.watching()
    assert cfg.key() is None
    (here / "watch.key").write_text("from-file\n")
    assert cfg.key() == "from-file"
    monkeypatch.setenv("BUCKLER_WATCH_KEY", "from-environment")
    assert cfg.key() == "from-environment"


def test_the_environment_overrides_the_address_of_the_service(monkeypatch):
    assert made.watching().address == "http://127.0.0.1:1"
    monkeypatch.setenv("BUCKLER_WATCH_SERVICE_URL", "http://service:3000")
    assert made.watching().address == "http://service:3000"
