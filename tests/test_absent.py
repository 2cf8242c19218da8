import pytest

from tests.absent import absent


def test_a_missing_program_fails_in_ci_and_skips_elsewhere(monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no such program"):
        absent("no such program")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="no such program"):
        absent("no such program")
