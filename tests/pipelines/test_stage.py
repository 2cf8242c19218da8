from pathlib import Path

import pytest

from buckler.errors import DataError
from pipelines.stage import ROOT, stage


def test_a_stage_runs_at_the_root_of_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    stage(lambda: seen.append(Path.cwd()))
    assert seen == [ROOT]
    assert (ROOT / "params.yaml").exists()


def test_an_expected_error_becomes_a_readable_line_and_exit_code_1(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)

    def fail():
        raise DataError("expected pictures, got none")

    with pytest.raises(SystemExit) as caught:
        stage(fail)
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: expected pictures, got none\n"


def test_an_unexpected_error_keeps_its_traceback(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ZeroDivisionError):
        stage(lambda: divmod(1, 0))
