"""Every call that waits for another program or machine has a limit."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "services", "pipelines", "infra")
WAITING = {
    *(f"subprocess.{name}" for name in ("run", "call", "check_call", "check_output")),
    *(f"httpx.{name}" for name in ("Client", "AsyncClient", "get", "post", "request", "stream")),
    *(f"requests.{name}" for name in ("get", "post", "put", "request")),
    "session.get",
    "urllib.request.urlopen",
    "urlopen",
    "socket.create_connection",
    "http.client.HTTPConnection",
    "http.client.HTTPSConnection",
}
# File and call -> why it has no limit.
ENDLESS = {
    ("infra/local/demo.py", "subprocess.call"): "the pipeline of the user, who sees its progress",
}


def calls_without_limit(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield name and line of each call of ``WAITING`` without ``timeout``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in WAITING:
            given = {keyword.arg for keyword in node.keywords}
            if not given & {"timeout", None}:  # None: a mapping of arguments
                yield ast.unparse(node.func), node.lineno


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_call_that_waits_has_a_limit(folder: str):
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name, line in calls_without_limit(ast.parse(path.read_text(encoding="utf-8")))
        if (str(path.relative_to(ROOT)), name) not in ENDLESS
    ]
    assert found == [], "give each a timeout, or name it in ENDLESS with a reason"


def test_the_exceptions_still_exist():
    for path, name in ENDLESS:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {found for found, _ in calls_without_limit(tree)}
