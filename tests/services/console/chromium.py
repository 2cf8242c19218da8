"""Helpers for tests of the pages in Chromium."""

import re
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

SECOND = 1000
expect.set_options(timeout=40 * SECOND)  # the machine may be busy
# Chromium logs each response of 400 or more; 4xx responses that a test provokes are not errors of the page.
REFUSED = re.compile(r"the server responded with a status of 4\d\d")


def choose(page: Page, console: str, picture: Path) -> None:
    page.goto(console)
    page.set_input_files("#file", picture)
    page.wait_for_selector("article.answer")


def open_all(page: Page) -> None:
    page.locator("details").evaluate_all("all => all.forEach(each => { each.open = true; })")


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {[node['html'] for node in each['nodes']]}" for each in found]
