import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from buckler.errors import BucklerError
from buckler.state import paths
from buckler.trust import keys
from pipelines import signer
from pipelines.signer import Period
from tests import projects

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)


@pytest.mark.parametrize("days", [1, 7, 30, 365])
def test_a_verdict_that_was_issued_in_a_period_is_valid_until_its_end(days):
    period = Period.at(NOON, days)
    assert period.first <= NOON.date() < period.end
    assert period.end - period.first == timedelta(days)
    earliest = datetime(period.first.year, period.first.month, period.first.day, tzinfo=UTC)
    assert (earliest + timedelta(days)).date() == period.end
    assert Period.at(earliest, days) == period
    assert Period.at(earliest - timedelta(microseconds=1), days).end == period.first


def test_periods_are_those_of_utc():
    assert Period.at(datetime.fromisoformat("2026-03-05T23:30:00-05:00"), 1).first == date(2026, 3, 6)


def test_the_stage_writes_the_same_until_key_or_period_change(project, capsys):
    signer.run(projects.POLICY, NOON)
    first = signer.SIGNER.read_bytes()
    assert "made key pairs" in capsys.readouterr().out
    signer.run(projects.POLICY, NOON + timedelta(hours=1))
    assert signer.SIGNER.read_bytes() == first
    assert json.loads(first)["key"] == keys.load_public_keys().id
    signer.run(projects.POLICY, NOON + timedelta(days=projects.POLICY.valid_days))
    assert signer.SIGNER.read_bytes() != first
    for path in paths.KEYS.glob("verdict.*"):
        path.unlink()
    signer.run(projects.POLICY, NOON)
    assert signer.SIGNER.read_bytes() != first


def test_a_key_that_is_named_but_missing_stops_the_stage(project, monkeypatch):
    monkeypatch.setenv("BUCKLER_SIGNING_KEY", "gone.pem")
    with pytest.raises(BucklerError, match=r"no key gone\.pem"):
        signer.run(projects.POLICY)
    assert not Path("data/signer.json").exists()
