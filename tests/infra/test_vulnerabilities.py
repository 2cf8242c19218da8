"""`make audit`: statements about the locked packages, against a server that answers like PyPI's JSON API."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from buckler.release.packages import Package, of_project
from infra import vulnerabilities
from infra.vulnerabilities import LOCK, VEX

ROOT = Path(__file__).parents[2]
PILLOW, H5PY = Package("pillow", "13.0.0"), Package("h5py", "3.14.0")
KNOWN = {
    "id": "PYSEC-2026-1",
    "aliases": ["CVE-2026-1", "GHSA-aaaa-bbbb-cccc"],
    "fixed_in": ["13.0.1"],
    "withdrawn": None,
}


def entry(state: str = "not_affected", **more: Any) -> dict[str, Any]:
    """Return a complete statement about CVE-2026-1 in Pillow."""
    reasons = {
        "not_affected": {"justification": "code_not_reachable"},
        "exploitable": {"response": ["workaround_available"]},
    }
    review = (
        {"properties": [{"name": vulnerabilities.REVIEW_BY, "value": "2026-02-01"}]} if state == "in_triage" else {}
    )
    return {
        "id": "CVE-2026-1",
        "source": {"name": "CVE"},
        "description": "A crafted file crashes the reader.",
        "recommendation": "Update.",
        "analysis": {"state": state, "detail": "The reader is switched off.", **reasons.get(state, {})},
        "affects": [{"ref": PILLOW.purl}],
        **review,
        **more,
    }


def document(*entries: dict[str, Any], packages: tuple[Package, ...] = (PILLOW,)) -> dict[str, Any]:
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "components": [
            {"type": "library", "bom-ref": p.purl, "name": p.name, "version": p.version, "purl": p.purl}
            for p in packages
        ],
        "vulnerabilities": list(entries),
    }


@dataclass
class Database:
    """Answers of a local PyPI JSON API: path -> status, body and headers, one after the other."""

    url: str = ""
    answers: dict[str, list[tuple[int, Any, dict[str, str]]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def add(self, package: Package, *found: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = {"info": {"name": package.name}, "vulnerabilities": list(found)}
        self.add_body(package, body, status=status, headers=headers)

    def add_body(
        self, package: Package, body: Any, *, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        path = f"/pypi/{package.name}/{package.version}/json"
        self.answers.setdefault(path, []).append((status, body, headers or {}))


class Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, database: Database, *arguments: Any) -> None:
        self.database = database
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self.database.asked.append(self.path)
        answers = self.database.answers.get(self.path, [(404, {"message": "Not Found"}, {})])
        status, body, headers = answers.pop(0) if len(answers) > 1 else answers[0]
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def database() -> Iterator[Database]:
    found = Database()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, found))
    found.url = f"http://127.0.0.1:{server.server_address[1]}/pypi"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Project:
    """A lock file with Pillow, and statements."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def run(self, statements: Any, *options: str, lock: tuple[Package, ...] = (PILLOW,)) -> tuple[int, str]:
        """Return exit code and output of the command."""
        (self.folder / "requirements.lock").write_text("".join(f"{p.name}=={p.version}\n" for p in lock))
        text = statements if isinstance(statements, str) else json.dumps(statements)
        (self.folder / "vex.json").write_text(text)
        files = ["--lock", str(self.folder / "requirements.lock"), "--vex", str(self.folder / "vex.json")]
        code = vulnerabilities.main([*files, *options])
        said = self.capsys.readouterr()
        return code, said.out + said.err


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Project:
    return Project(tmp_path, capsys)


def test_the_statements_of_this_project_are_about_its_locked_packages(capsys):
    assert vulnerabilities.main(["--offline"]) == 0, capsys.readouterr().err


def test_every_statement_names_the_package_as_the_bill_of_materials_does():
    locked = {package.purl for package in of_project(LOCK)}
    found = vulnerabilities.statements(vulnerabilities.read(VEX))
    assert found
    assert {purl for each in found for purl in each.purls} <= locked


def test_ids_of_the_statements_have_the_form_of_their_database():
    forms = r"CVE-\d{4}-\d{4,}|GHSA(-[23456789cfghjmpqrvwx]{4}){3}|PYSEC-\d{4}-\d+"
    found = vulnerabilities.statements(vulnerabilities.read(VEX))
    assert [name for each in found for name in each.ids if not re.fullmatch(forms, name)] == []


def test_a_known_vulnerability_without_a_statement_fails(project, database):
    database.add(PILLOW, KNOWN)
    code, said = project.run(document(), "--database", database.url)
    assert code == 1
    assert "pillow 13.0.0: PYSEC-2026-1 = CVE-2026-1 = GHSA-aaaa-bbbb-cccc, fixed in 13.0.1" in said
    assert "update the package, or assess it and write one" in said


@pytest.mark.parametrize("state", vulnerabilities.NEEDS)
def test_a_statement_counts_under_any_id_of_the_vulnerability(project, database, state, monkeypatch):
    monkeypatch.setattr(vulnerabilities, "overdue", lambda *_: [])
    database.add(PILLOW, KNOWN)
    assert project.run(document(entry(state)), "--database", database.url)[0] == 0
    other = entry(state, id="GHSA-xxxx-xxxx-xxxx", references=[{"id": "PYSEC-2026-1", "source": {"name": "PyPA"}}])
    assert project.run(document(other), "--database", database.url)[0] == 0


def test_a_statement_about_another_package_does_not_count(project, database):
    database.add(PILLOW, KNOWN)
    database.add(H5PY)
    elsewhere = document(entry(affects=[{"ref": H5PY.purl}]), packages=(H5PY,))
    code, said = project.run(elsewhere, "--database", database.url, lock=(PILLOW, H5PY))
    assert (code, "pillow 13.0.0: PYSEC-2026-1" in said) == (1, True)


def test_an_advisory_that_was_withdrawn_needs_no_statement(project, database):
    database.add(PILLOW, {**KNOWN, "withdrawn": "2026-03-01T00:00:00Z"})
    code, said = project.run(document(), "--database", database.url)
    assert (code, "0 known vulnerabilities" in said) == (0, True)


def test_every_locked_package_is_asked_for_in_its_locked_version(project, database):
    database.add(PILLOW)
    database.add(H5PY)
    assert project.run(document(), "--database", database.url, lock=(PILLOW, H5PY))[0] == 0
    assert database.asked == ["/pypi/pillow/13.0.0/json", "/pypi/h5py/3.14.0/json"]


def test_a_busy_database_is_asked_again(project, database):
    database.add(PILLOW, status=429, headers={"Retry-After": "0"})
    database.add(PILLOW, KNOWN)
    assert project.run(document(), "--database", database.url)[0] == 1


def test_a_database_that_stays_busy_is_no_all_clear(project, database):
    database.add(PILLOW, status=429, headers={"Retry-After": "0"})
    code, said = project.run(document(), "--database", database.url)
    assert (code, "got 429" in said) == (2, True)
    assert len(database.asked) == vulnerabilities.TRIES


def test_a_database_that_does_not_know_the_version_is_no_all_clear(project, database):
    code, said = project.run(document(), "--database", database.url)
    assert code == 2
    assert "expected the advisories of pillow 13.0.0, got 404" in said


@pytest.mark.parametrize(
    "body",
    [
        b"<html>please sign in</html>",
        b"\xff",
        [],
        {"info": {}},
        {"vulnerabilities": None},
        {"vulnerabilities": [7]},
        {"vulnerabilities": [{}]},
    ],
)
def test_an_answer_in_another_form_is_no_all_clear(project, database, body):
    database.add_body(PILLOW, body)
    code, said = project.run(document(), "--database", database.url)
    assert (code, "expected a list `vulnerabilities` in PyPI's format" in said) == (2, True)


def test_without_a_database_the_statements_are_checked_all_the_same(project):
    nobody = ("--database", "http://127.0.0.1:9/pypi")
    code, said = project.run(document(entry()), *nobody)
    assert code == 2
    assert re.search(
        r"error: expected an answer from http://127.0.0.1:9/\S+, got: .*; new vulnerabilities are not known", said
    )
    assert "1 statements about 1 locked packages, complete" in said
    assert project.run(document(entry()), *nobody, lock=(Package("pillow", "13.0.1"),))[0] == 1


def test_a_statement_about_a_version_that_is_no_longer_locked_fails(project):
    code, said = project.run(document(entry()), "--offline", lock=(Package("pillow", "13.0.1"),))
    assert code == 1
    assert "pillow: expected the locked version, got 13.0.0, but requirements.lock has version 13.0.1" in said
    assert "no such package" in project.run(document(entry()), "--offline", lock=(H5PY,))[1]


def test_a_package_under_another_purl_than_in_the_bill_of_materials_fails(project):
    renamed = document(entry())
    renamed["components"][0]["purl"] = "pkg:pypi/Pillow@13.0.0"
    assert "expected bom-ref and purl pkg:pypi/pillow@13.0.0" in project.run(renamed, "--offline")[1]


def test_a_package_that_the_document_does_not_list_fails(project):
    code, said = project.run(document(entry(), packages=()), "--offline")
    assert (code, "expected one of the document's components" in said) == (1, True)


def test_two_statements_about_one_vulnerability_fail_under_any_of_its_ids(project):
    again = entry(id="GHSA-2222-3333-4444", references=[{"id": "CVE-2026-1", "source": {"name": "CVE"}}])
    code, said = project.run(document(entry(), again), "--offline")
    assert (code, "CVE-2026-1: expected one statement about pkg:pypi/pillow@13.0.0, got two" in said) == (1, True)


@pytest.mark.parametrize(
    ("state", "needed"), [(state, needed) for state, needs in vulnerabilities.NEEDS.items() for needed in needs]
)
def test_a_statement_without_what_its_state_needs_fails(project, state, needed):
    incomplete = deepcopy(entry(state))
    head, _, name = needed.partition(".")
    if needed == vulnerabilities.REVIEW_BY:
        incomplete["properties"][0]["value"] = "soon"
    elif name:
        del incomplete[head][name]
    else:
        del incomplete[head]
    code, said = project.run(document(incomplete), "--offline")
    assert (code, f"CVE-2026-1: expected {needed} for the state {state}, got none" in said) == (1, True)


def test_a_state_that_says_nothing_fails(project):
    code, said = project.run(document(entry("false_positive")), "--offline")
    assert (code, "expected a state of exploitable, in_triage" in said) == (1, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "JSON"),
        ("{", "JSON"),
        ("[]", "CycloneDX 1.6"),
        ('{"bomFormat": "CycloneDX"}', "CycloneDX 1.6"),
        ('{"bomFormat": "SPDX", "specVersion": "1.6"}', "CycloneDX 1.6"),
    ],
)
def test_a_document_that_is_not_cyclonedx_fails(project, text, expected):
    code, said = project.run(text, "--offline")
    assert (code, f"to be {expected}, got" in said) == (1, True)


def test_a_missing_document_or_lock_fails(tmp_path, capsys):
    assert vulnerabilities.main(["--offline", "--vex", str(tmp_path / "vex.json")]) == 1
    assert vulnerabilities.main(["--offline", "--lock", str(tmp_path / "requirements.lock")]) == 1
    assert "expected a lock file" in capsys.readouterr().err


def test_a_triage_ends_on_its_date(project, database):
    database.add(PILLOW, KNOWN)
    code, said = project.run(document(entry("in_triage")), "--database", database.url)
    assert (code, "CVE-2026-1: expected a decision by 2026-02-01, got in_triage" in said) == (1, True)
    assert project.run(document(entry("in_triage")), "--offline")[0] == 0
    found = vulnerabilities.statements(document(entry("in_triage")))
    assert vulnerabilities.overdue(found, date(2026, 2, 1)) == []
    assert len(vulnerabilities.overdue(found, date(2026, 2, 2))) == 1


def test_make_audit_runs_the_command(database):
    make = shutil.which("make")
    assert make is not None
    planned = subprocess.run(
        [make, "-n", "audit", f"DATABASE={database.url}"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert f'python -m infra.vulnerabilities --database "{database.url}"' in planned
    module = [sys.executable, "-m", "infra.vulnerabilities", "--database", database.url]
    ended = subprocess.run(module, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode in {1, 2}  # 1 once a triage is overdue
    assert ended.stderr.startswith("error: expected")


def test_make_keeps_dvcs_cache_where_no_other_user_writes(tmp_path):
    """DVC unpickles this cache; its default below /var/tmp is open to every user of the machine."""
    show = tmp_path / "show.mk"
    show.write_text(f"include {ROOT}/Makefile\nshow-cache:\n\t@echo $$DVC_SITE_CACHE_DIR\n")
    command = ["make", "--no-print-directory", "-f", str(show), "show-cache"]
    for given, expected in (({}, str(tmp_path / ".buckler/dvc")), ({"DVC_SITE_CACHE_DIR": "/mine"}, "/mine")):
        environment = {"PATH": "/usr/bin:/bin", **given}
        said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        assert said.stdout.strip() == expected
    planned = ["make", "-n", "-B", "PYTHON=python3", ".venv/.installed"]
    setup = subprocess.run(planned, cwd=ROOT, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True)
    assert f'core.site_cache_dir "{ROOT}/.buckler/dvc"' in setup.stdout
