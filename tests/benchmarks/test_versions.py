"""The comparison of two checkouts: its table of invented results, and checkouts that it cannot measure."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import versions
from benchmarks.serving import Plan
from buckler.errors import BucklerError
from tests.benchmarks.test_serving import FAST

PLAN = Plan(32, "tiny")


COMMITS = {versions.BEFORE: "aaaaaaa", versions.AFTER: "bbbbbbb"}


def measured(version: str, network: str = "tiny", **changes) -> versions.Measurement:
    return versions.Measurement(version, network, replace(FAST, **changes))


def test_the_table_has_the_medians_of_each_version_for_each_network_and_number_of_clients():
    found = [
        measured(version, network, clients=clients, p50_ms=p50, errors=1, refused=2)
        for version, slower in ((versions.BEFORE, 10.0), (versions.AFTER, 0.0))
        for network in ("vgg19", "tiny")
        for clients in (1, 16)
        for p50 in (20.0 + slower, 90.0 + slower, 21.0 + slower)
    ]
    rows = versions.table(found, COMMITS).rows
    keys = ("network", "clients", "version", "commit", "p50_ms", "errors", "refused")
    assert [tuple(row[key] for key in keys) for row in rows] == [
        (network, clients, *version)
        for network in ("vgg19", "tiny")
        for clients in (1, 16)
        for version in (("before", "aaaaaaa", 31.0, 3, 6), ("after", "bbbbbbb", 21.0, 3, 6))
    ]


def test_two_checkouts_of_one_commit_have_a_row_each():
    rows = versions.table([measured("before"), measured("after", p50_ms=5.0)], dict.fromkeys(COMMITS, "aaaaaaa")).rows
    assert [row["p50_ms"] for row in rows] == [20.0, 5.0]


def test_a_round_without_an_answer_does_not_count():
    found = [measured("before", p50_ms=p50) for p50 in (None, 30.0, 40.0)]
    assert versions.table(found, {"before": "a"}).rows[0]["p50_ms"] == 35.0
    assert versions.table(found[:1], {"before": "a"}).rows[0]["p50_ms"] is None


def test_a_folder_outside_git_is_one_clear_error(tmp_path: Path):
    with pytest.raises(BucklerError, match="expected a git checkout of the project, got"):
        versions.run(tmp_path, versions.MODULE, [PLAN], 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkout_without_its_environment_names_the_command(tmp_path: Path):
    with pytest.raises(BucklerError, match="run make setup in"):
        versions.prepare(tmp_path, versions.MODULE, PLAN, tmp_path)


def test_a_checkout_that_cannot_prepare_a_release_shows_its_error(tmp_path: Path):
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 'No module named pipelines.jobs' >&2; exit 1\n")
    python.chmod(0o755)
    with pytest.raises(BucklerError, match=r"cannot prepare a release with other\.module:\nNo module named"):
        versions.prepare(tmp_path, "other.module", PLAN, tmp_path)
