"""Writes ``docs/reference`` from the code: ``make reference``.

settings.md comes from the settings classes, params.md from params.yaml and its comments, cli.md from the parser of
``buckler``, signed-documents.md from the dataclasses that are signed, answers.md from the lists of reasons and error
codes, schemas.json from the types of stored documents. The table of pictures in docs/how-to/own-pictures.md comes from
the profiles. A test compares the committed files with what this module writes.
"""

import argparse
import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from buckler import cli
from buckler.client.errors import CLASSES
from buckler.detection.reasons import Reason
from buckler.error_codes import ErrorCode, Group
from buckler.serving.downloads import DownloadSettings
from buckler.serving.settings import EnvironmentSettings, SettingUnit, variable
from buckler.watch.settings import WatchSettings
from docs import profile_needs, schemas, signed_documents
from services.classifier.settings import Settings as ServiceSettings
from services.console.settings import Settings as ConsoleSettings

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs/reference"
WIDTH = 100  # of usage lines, whatever the terminal's width
NOTE = "<!-- Written by `make reference`; do not edit. -->"
PROCESSES: dict[str, type[EnvironmentSettings]] = {
    "Service": ServiceSettings,
    "Console": ConsoleSettings,
    "Watch": WatchSettings,
    "Downloads of releases": DownloadSettings,
}
OTHERS = {
    "BUCKLER_REGISTRY_ID": "Id of the model registry in every signed record; the same wherever records are signed or"
    " verified. Default: `local` for files, else host and path of `MLFLOW_TRACKING_URI`.",
    "BUCKLER_SIGNING_JOURNAL": "Directory of the signer's journal. Default: `.buckler/signed`.",
    "BUCKLER_SIGNING_KEY": "Private key that signs verdicts: a file or a `pkcs11:` URI. Default:"
    " `.buckler/keys/verdict.pem`.",
    "BUCKLER_VERDICT_KEY": "Public keys that verify verdicts. Default: `.buckler/keys/verdict.pub`.",
    "BUCKLER_PROMOTION_SIGNING_KEY": "Private key that signs promotions and what the watch states: a file or a"
    " `pkcs11:` URI. Default:"
    " `.buckler/keys/promotion.pem`; the verdict key where no promotion key is known.",
    "BUCKLER_PROMOTION_KEY": "Public keys that verify promotions and what the watch states. Default:"
    " `.buckler/keys/promotion.pub`; those of verdicts where no promotion key is known.",
    "BUCKLER_APPROVER_KEYS": "Directory of the public keys `NAME.pub` of people who may approve promotions. Default:"
    " `.buckler/keys/approvers`.",
    "BUCKLER_SIGNATURES": "Number of people who must approve each promotion, whatever its verdict demands; read by"
    " service, console, watch and commands. Default: 0.",
    "BUCKLER_APPROVAL_KEY": "Private key of the person who runs `buckler approve`: a file or a `pkcs11:` URI. Default:"
    " `NAME.pem` in the directory of the public keys.",
    "BUCKLER_API_KEYS": "API keys: `buckler keys` writes the file, the service reads it.",
    "BUCKLER_AUDIT_LOG": "Audit log: the service writes the file, `buckler audit verify` verifies it.",
    "BUCKLER_CLIENT_KEY": "API key that `buckler predict` sends.",
    "BUCKLER_PRECISION": "Precision of attacks and training: `float32` or `bfloat16`. Default: the faster one.",
    "BUCKLER_REAL_DATA": "Folder of the pictures that tests marked `real_data` need. Default: `../shared/data`.",
    "MLFLOW_TRACKING_URI": "MLflow registry. Default: the SQLite file `.buckler/mlflow.db`.",
}
ERRORS = """\
A response with an HTTP status of 400 or more has the body `{"error": {"code": "…", "message": "…"}}`. In an answer to
several pictures, an unusable one has this body in its place. The message may be more specific than the meaning below.
The header `Retry-After`, where it is sent, says how many seconds to wait. FHIR and the Open Inference Protocol state
code and message in the form of their standard. `buckler.client` raises one exception for each group."""
_BOUNDS = {
    annotated_types.Gt: ("gt", "more than"),
    annotated_types.Ge: ("ge", "at least"),
    annotated_types.Le: ("le", "at most"),
}


def settings() -> str:
    """Return settings.md."""
    lines = [
        "# Settings",
        "",
        NOTE,
        "",
        "Each process reads its settings from environment variables when it starts.",
        "An empty variable counts as not set.",
    ]
    for process, cls in PROCESSES.items():
        lines += ["", f"## {process}", "", *_table("variable", "default", "value", "meaning")]
        lines += [
            _row(f"`{variable(name)}`", _default(field.default), _value(field), _one_line(field.description or ""))
            for name, field in cls.model_fields.items()
        ]
    lines += ["", "## Commands and tests", "", *_table("variable", "meaning")]
    lines += [_row(f"`{name}`", meaning) for name, meaning in OTHERS.items()]
    return "\n".join(lines) + "\n"


def params() -> str:
    """Return params.md: a table for each section of params.yaml; nested keys have the names of their parents.

    A key without a comment means the same as the key of that name above it in the section.
    """
    text = (ROOT / "params.yaml").read_text(encoding="utf-8").split("\nprofiles:")[0]
    lines = [
        "# Parameters",
        "",
        NOTE,
        "",
        "`params.yaml` has one section for each stage of the pipeline and each job of the watch.",
        "The values are those of the committed file; `buckler profile` sets many at once.",
    ]
    path: list[str] = []
    meanings: dict[str, str] = {}
    for entry in _entries(text):
        if entry.indent == 0:
            about = [entry.comment, ""] if entry.comment else []
            lines += ["", f"## `{entry.key}`", "", *about, *_table("key", "value", "meaning")]
            path, meanings = [], {}
            continue
        path = [*path[: entry.indent // 2 - 1], entry.key]
        meaning = entry.comment or meanings.get(entry.key, "")
        meanings.setdefault(entry.key, meaning)
        lines.append(_row(f"`{'.'.join(path)}`", f"`{entry.value}`" if entry.value else "", meaning))
    return "\n".join(lines) + "\n"


def command_line() -> str:
    """Return cli.md."""
    lines = ["# Command line", "", NOTE, "", "Exit codes: 0 done; 1 refused; 2 could not be done, or wrong arguments."]
    for parser in _parsers(cli.parser()):
        parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=WIDTH)
        lines += ["", f"## `{parser.prog}`", "", "```", parser.format_help().rstrip(), "```"]
    return "\n".join(lines) + "\n"


def answers() -> str:
    """Return answers.md: the reasons for review, and the error codes by group."""
    lines = [
        "# Reasons and error codes",
        "",
        NOTE,
        "",
        "## Reasons for review",
        "",
        "An answer with the decision `review` has one or more of these reasons; a person must check the picture.",
        "",
        *_table("reason", "meaning", "what to do"),
        *(_row(f"`{reason}`", reason.meaning, reason.advice) for reason in Reason),
        "",
        "## Error codes",
        "",
        *ERRORS.splitlines(),
    ]
    for group in Group:
        exception = CLASSES[group]
        lines += ["", f"### `{exception.__name__}`", "", _one_line(exception.__doc__ or "").replace("``", "`"), ""]
        lines += _table("code", "status", "meaning", "what to do")
        lines += [
            _row(f"`{code}`", str(code.status.value), code.meaning, html.escape(code.advice, quote=False))
            for code in ErrorCode
            if code.group is group
        ]
    return "\n".join(lines) + "\n"


FILES: dict[str, Callable[[], str]] = {
    "settings.md": settings,
    "params.md": params,
    "cli.md": command_line,
    "answers.md": answers,
    "signed-documents.md": lambda: signed_documents.page(NOTE),
}


def main() -> None:
    """Write all files, and the table in the page on own pictures."""
    REFERENCE.mkdir(exist_ok=True)
    for name, content in FILES.items():
        (REFERENCE / name).write_text(content(), encoding="utf-8")
    schemas.write()
    page = profile_needs.PAGE
    page.write_text(profile_needs.fill(page.read_text(encoding="utf-8")), encoding="utf-8")


@dataclass
class ParameterLine:
    """A key of params.yaml and its value; ``comment`` includes those of the lines below that have no key."""

    indent: int
    key: str
    value: str
    comment: str


def _entries(text: str) -> list[ParameterLine]:
    """Return the keys of params.yaml in their order; items of a list become part of the comment."""
    found: list[ParameterLine] = []
    for line in text.splitlines():
        content, _, comment = line.partition("#")
        entry = re.fullmatch(r"( *)([\w-]+):\s*(.*?)\s*", content)
        if entry:
            found.append(ParameterLine(len(entry[1]), entry[2], entry[3], comment.strip()))
        elif found:
            item = content.strip()
            parts = (found[-1].comment, f"`{item}`" if item else "", comment.strip())
            found[-1].comment = " ".join(filter(None, parts))
    return found


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _parsers(sub)


def _value(field: FieldInfo) -> str:
    """Return the values that a field accepts: its choices, or its unit and bounds."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation))
    (unit,) = (each.name for each in field.metadata if isinstance(each, SettingUnit))
    bounds = [
        f"{text} {getattr(each, attribute)}"
        for each in field.metadata
        for kind, (attribute, text) in _BOUNDS.items()
        if isinstance(each, kind)
    ]
    return ", ".join([unit, *bounds])


def _default(value: Any) -> str:
    return "" if value is None else f"`{value}`"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _table(*heads: str) -> list[str]:
    return [_row(*heads), _row(*("---" for _ in heads))]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    main()
