"""Compares known vulnerabilities of locked packages with statements about them: `python -m infra.vulnerabilities`.

Reads   requirements.lock, infra/vex.json; with `--database`, the advisories of PyPI's JSON API there
Exits   0 if every known vulnerability has a statement, 1 if a statement is missing, wrong or overdue, 2 if the database
        did not answer for every package
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from buckler.errors import BucklerError
from buckler.release import packages
from buckler.release.packages import Package

ROOT = Path(__file__).resolve().parent.parent
LOCK, VEX = ROOT / "requirements.lock", ROOT / "infra/vex.json"
REVIEW_BY = "buckler:review-by"  # property of a statement that is still in triage
TRIES, LONGEST_WAIT = 3, 60.0  # of one request; seconds before the next try

# What a statement has to explain, for each state of CycloneDX's analysis that the project uses.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "exploitable": ("analysis.detail", "analysis.response", "recommendation"),
    "in_triage": ("analysis.detail", REVIEW_BY),
    "not_affected": ("analysis.detail", "analysis.justification"),
    "resolved": ("analysis.detail",),
}


class DocumentError(BucklerError):
    """The statements or the lock cannot be read."""


class DatabaseError(BucklerError):
    """The advisory database did not answer, or not in its format."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What infra/vex.json says about one vulnerability.

    Attributes:
        ids: Its id, then its ids in other databases.
        purls: The packages that it is about.
        state: CycloneDX's state: one of ``NEEDS``.
        review_by: When the triage must have ended; ``None`` for other states.
    """

    ids: tuple[str, ...]
    purls: tuple[str, ...]
    state: str
    review_by: date | None


@dataclass(frozen=True, slots=True)
class Advisory:
    """A known vulnerability of a locked package.

    Attributes:
        package: The locked package.
        ids: Its id, then its ids in other databases.
        fixed_in: Versions that have the fix.
    """

    package: Package
    ids: tuple[str, ...]
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        fix = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no version has a fix"
        return f"{self.package.name} {self.package.version}: {' = '.join(self.ids)}, {fix}"


def read(path: Path) -> dict[str, Any]:
    """Return the document at ``path``.

    Raises:
        DocumentError: It cannot be read, is not JSON, or is not CycloneDX 1.6.
    """
    try:
        text = path.read_text(encoding="utf-8")
        document: dict[str, Any] = json.loads(text)
    except OSError as error:
        raise DocumentError(f"expected the statements in {path}, got: {error.strerror}; restore the file") from error
    except ValueError as error:
        raise DocumentError(f"expected {path} to be JSON, got: {error}; correct the document") from error
    if fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise DocumentError(f"expected {path} to be CycloneDX 1.6, got: {fault.data}; correct the document")
    return document


def faults(document: Mapping[str, Any], locked: Sequence[Package]) -> list[str]:
    """Return what is wrong with the statements, read without any database."""
    return [
        *_faults_of_components(document, {package.name: package for package in locked}),
        *_incomplete(document),
        *_duplicates(statements(document)),
    ]


def statements(document: Mapping[str, Any]) -> list[Statement]:
    """Return the statements of a valid ``document``."""
    return [_statement(entry) for entry in document.get("vulnerabilities", ())]


def overdue(found: Sequence[Statement], today: date) -> list[str]:
    """Return the statements whose triage should have ended before ``today``."""
    return [
        f"{each.ids[0]}: expected a decision by {each.review_by}, got in_triage; assess it and state the result"
        for each in found
        if each.review_by and each.review_by < today
    ]


def unstated(advisories: Sequence[Advisory], found: Sequence[Statement]) -> list[str]:
    """Return the known vulnerabilities that no statement about the same package names."""
    stated = {(purl, name) for each in found for purl in each.purls for name in each.ids}
    return [
        f"{each}; expected a statement in infra/vex.json, got none; update the package, or assess it and write one"
        for each in advisories
        if not any((each.package.purl, name) in stated for name in each.ids)
    ]


def ask(locked: Sequence[Package], client: httpx.Client, database: str) -> list[Advisory]:
    """Return the advisories about ``locked`` that ``database`` has and did not withdraw.

    Raises:
        DatabaseError: It did not answer for one of the packages, or not in the format of PyPI's JSON API.
    """
    return [advisory for package in locked for advisory in _advisories(package, client, database)]


def _faults_of_components(document: Mapping[str, Any], locked: Mapping[str, Package]) -> Iterator[str]:
    known = {package.purl for package in locked.values()}
    references = set()
    for component in document.get("components", ()):
        references.add(component["bom-ref"])
        name, version = component["name"], component.get("version")
        purl = Package(name, str(version)).purl
        if not component["bom-ref"] == component.get("purl") == purl:
            yield f"{name}: expected bom-ref and purl {purl}, got {component['bom-ref']} and {component.get('purl')}"
        elif purl not in known:
            now = f"version {locked[name].version}" if name in locked else "no such package"
            yield (
                f"{name}: expected the locked version, got {version}, but requirements.lock has {now}; "
                "assess its vulnerabilities again"
            )
    for entry in document.get("vulnerabilities", ()):
        for purl in sorted({each["ref"] for each in entry.get("affects", ())} - references):
            yield f"{entry['id']}: expected one of the document's components, got {purl}; add the component"


def _incomplete(document: Mapping[str, Any]) -> Iterator[str]:
    for entry in document.get("vulnerabilities", ()):
        state = entry.get("analysis", {}).get("state")
        if state not in NEEDS:
            yield f"{entry.get('id')}: expected a state of {', '.join(NEEDS)}, got {state}"
            continue
        for needed in ("id", "source", "description", "affects", *NEEDS[state]):
            if not _value(entry, needed):
                yield f"{entry.get('id')}: expected {needed} for the state {state}, got none; complete the statement"


def _value(entry: Mapping[str, Any], path: str) -> Any:
    if path == REVIEW_BY:
        return _review_by(entry)
    head, _, name = path.partition(".")
    return entry.get(head, {}).get(name) if name else entry.get(head)


def _duplicates(found: Sequence[Statement]) -> Iterator[str]:
    first: dict[tuple[str, str], Statement] = {}
    for each in found:
        for key in ((purl, name) for purl in each.purls for name in each.ids):
            if key in first:
                yield f"{key[1]}: expected one statement about {key[0]}, got two; keep one"
            first[key] = each


def _statement(entry: Mapping[str, Any]) -> Statement:
    state = entry.get("analysis", {}).get("state", "")
    return Statement(
        ids=(str(entry.get("id")), *(each["id"] for each in entry.get("references", ()))),
        purls=tuple(each["ref"] for each in entry.get("affects", ())),
        state=state,
        review_by=_review_by(entry) if state == "in_triage" else None,
    )


def _review_by(entry: Mapping[str, Any]) -> date | None:
    """Return the date of the property; ``None`` without one, or if it is no date."""
    values = {each.get("name"): each.get("value", "") for each in entry.get("properties", ())}
    try:
        return date.fromisoformat(values.get(REVIEW_BY, ""))
    except ValueError:
        return None


def _advisories(package: Package, client: httpx.Client, database: str) -> Iterator[Advisory]:
    url = f"{database}/{package.name}/{package.version}/json"
    answer = _get(client, url)
    if answer.status_code == httpx.codes.NOT_FOUND:
        # Mirrors answer so for every version: silence is no proof that nothing is known.
        raise DatabaseError(f"expected the advisories of {package.name} {package.version}, got 404 from {url}")
    try:
        answer.raise_for_status()
        for entry in answer.json()["vulnerabilities"]:
            if not entry.get("withdrawn"):
                ids = dict.fromkeys([str(entry["id"]), *map(str, entry.get("aliases") or ())])
                yield Advisory(package, tuple(ids), tuple(entry.get("fixed_in") or ()))
    except httpx.HTTPStatusError as error:
        raise DatabaseError(
            f"expected the advisories of {package.name}, got {answer.status_code} from {url}"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatabaseError(
            f"expected a list `vulnerabilities` in PyPI's format, got {answer.text[:60]!r} from {url}"
        ) from error


def _get(client: httpx.Client, url: str) -> httpx.Response:
    """Return the answer; a database that asks for patience gets it a few times."""
    try:
        answer = client.get(url)
        for _ in range(TRIES - 1):
            if answer.status_code not in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
                break
            asked = answer.headers.get("Retry-After", "")
            time.sleep(min(float(asked) if asked.isdecimal() else 1.0, LONGEST_WAIT))
            answer = client.get(url)
    except httpx.HTTPError as error:
        raise DatabaseError(f"expected an answer from {url}, got: {error or type(error).__name__}") from error
    return answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is wrong and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--offline", action="store_true", help="compare the statements with the lock only")
    asked.add_argument("--database", metavar="URL", help="root of PyPI's JSON API, below which are NAME/VERSION/json")
    parser.add_argument("--lock", type=Path, default=LOCK, help="lock file; requirements.lock by default")
    parser.add_argument("--vex", type=Path, default=VEX, help="statements; infra/vex.json by default")
    given = parser.parse_args(arguments)
    try:
        document, locked = read(given.vex), _locked(given.lock)
    except DocumentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    wrong = faults(document, locked)
    if not wrong and not given.offline:
        wrong = overdue(statements(document), datetime.now(UTC).date())
    if wrong:
        print("\n".join(f"error: {each}" for each in wrong), file=sys.stderr)
        return 1
    found = statements(document)
    print(f"{given.vex.name}: {len(found)} statements about {len(locked)} locked packages, complete")
    return 0 if given.offline else _audit(locked, found, given.database.rstrip("/"))


def _locked(lock: Path) -> tuple[Package, ...]:
    if not lock.is_file():  # `of_project` would take the installed packages
        raise DocumentError(f"expected a lock file, got none at {lock}; restore it with `make lock`")
    return packages.of_project(lock)


def _audit(locked: Sequence[Package], found: Sequence[Statement], database: str) -> int:
    try:
        with httpx.Client(timeout=30, follow_redirects=True) as client:  # proxies and certificates of the environment
            advisories = ask(locked, client, database)
    except DatabaseError as error:
        advice = "new vulnerabilities are not known; try again, or name another database with --database"
        print(f"error: {error}; {advice}", file=sys.stderr)
        return 2
    missing = unstated(advisories, found)
    for each in missing:
        print(f"error: {each}", file=sys.stderr)
    if not missing:
        print(f"{database}: {len(advisories)} known vulnerabilities, each with a statement")
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
