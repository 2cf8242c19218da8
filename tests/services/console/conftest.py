"""Consoles without other servers; and service, console and pages of a module's ``scene``."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, sync_playwright

from buckler.serving import api_keys
from buckler.serving.api_keys import Role
from tests.services.console.browser import Browser, client
from tests.services.console.chromium import REFUSED, SECOND
from tests.services.console.scene import CHROMIUM, Scene


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, an empty registry and no keys."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/missing/mlflow.db")


@pytest.fixture
def ring(tmp_path: Path) -> tuple[Path, dict[Role, str]]:
    """A file of keys, and the secret of one key per role."""
    path = tmp_path / "api.json"
    return path, {role: api_keys.create(path, role=role, name=str(role))[1] for role in Role}


@pytest.fixture
def guarded(ring: tuple[Path, dict[Role, str]]) -> Browser:
    """A console that is reachable from other machines."""
    return client("https://console.hospital.example", console_host="0.0.0.0", api_keys=ring[0])


@pytest.fixture(scope="module")
def service(scene: Scene) -> Iterator[str]:
    with scene.service() as url:
        yield url


@pytest.fixture(scope="module")
def console(scene: Scene, service: str) -> Iterator[str]:
    with scene.console(service) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with sync_playwright() as playwright:
        # Chromium does not support its sandbox for root, which CI runs as.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Chromium, console: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page that fails its test if it reports an error or sends a request to another host."""
    options = {"color_scheme": "light", "viewport": {"width": 1100, "height": 800}} | getattr(request, "param", {})
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(60 * SECOND)
    errors: list[str] = []
    hosts: set[str] = set()
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request", lambda each: hosts.add(each.url) if not each.url.startswith((console, "data:", "blob:")) else None
    )
    yield page
    context.close()
    assert [error for error in errors if not REFUSED.search(error)] == []
    assert hosts == set()
