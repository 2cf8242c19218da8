"""`buckler audit verify`."""

import pytest

from buckler import cli
from tests.unit.trust.appending import write


def test_the_command_prints_the_number_of_valid_lines_and_the_head(path, capsys):
    (*_, head) = write(path, 3)
    assert cli.main(["audit", "verify", str(path)]) == 0
    output = capsys.readouterr().out
    assert "lines      3 valid, 1 to 3" in output
    assert f"head       {head.digest}" in output
    options = ["--expect-head", head.digest, "--expect-lines", "3"]
    assert cli.main(["audit", "verify", str(path), *options]) == 0


def test_the_command_exits_1_and_names_the_invalid_line(path, capsys):
    write(path, 3)
    path.write_bytes(path.read_bytes().replace(b"benign", b"malign", 1))
    assert cli.main(["audit", "verify", str(path)]) == 1
    printed = capsys.readouterr()
    assert "lines      0 valid" in printed.out
    assert printed.err.startswith("refused: ")
    assert "line 1 was changed" in printed.err
    assert printed.err.count("\n") == 1


def test_the_command_reads_the_log_named_by_the_setting_and_exits_2_without_one(path, monkeypatch, capsys):
    write(path, 1)
    monkeypatch.setenv("BUCKLER_AUDIT_LOG", str(path))
    assert cli.main(["audit", "verify"]) == 0
    monkeypatch.setenv("BUCKLER_AUDIT_LOG", "off")
    assert cli.main(["audit", "verify"]) == 2
    assert "name the file of an older one" in capsys.readouterr().err
    monkeypatch.setenv("BUCKLER_AUDIT_LOG", str(path.parent / "other.jsonl"))
    assert cli.main(["audit", "verify"]) == 2
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--expect-head", "5d41"], ["--expect-lines", "-1"], ["--after", "sha256:xyz"]])
def test_a_malformed_expectation_is_rejected(path, option, capsys):
    write(path, 1)
    with pytest.raises(SystemExit) as caught:
        cli.main(["audit", "verify", str(path), *option])
    assert caught.value.code == 2
    assert "expected" in capsys.readouterr().err
