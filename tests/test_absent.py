import pytest

from tests.absent import absent, needed


def test_a_missing_program_fails_in_ci_and_skips_elsewhere(monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no such program"):
        absent("no such program")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="no such program"):
        absent("no such program")


@pytest.mark.parametrize(("met", "ci", "skipped"), [(True, "", False), (False, "", True), (False, "true", False)])
def test_a_missing_right_never_skips_a_test_in_ci(monkeypatch, met: bool, ci: str, skipped: bool):
    monkeypatch.setenv("CI", ci)
    mark = needed(met, "only root can").mark
    assert (mark.name, mark.args, mark.kwargs) == ("skipif", (skipped,), {"reason": "only root can"})
