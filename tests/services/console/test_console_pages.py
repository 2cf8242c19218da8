"""The console's pages in a real browser, with a real service and small real releases."""

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from playwright.sync_api import Page, expect

from buckler.release.restate import restate
from buckler.serving import api_keys, registry
from buckler.trust import audit_chain
from buckler.trust.standing import Claim
from services.console.registry import ConsoleRegistry
from services.console.settings import Settings
from tests.monitoring.tools import needs
from tests.services.console.chromium import SECOND, choose, open_all, violations
from tests.services.console.scene import Scene, small_project, wait_for_prometheus
from tests.services.running import encode
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

NAME = "haut-läsion"


@pytest.fixture(scope="module")
def scene(module_tmp_path: Path, mlflow_database: str) -> Iterator[Scene]:
    """Versions 1 and 2, promoted in turn, and version 3, the challenger, which failed its gate."""
    scene = Scene(module_tmp_path / "scene", small_project(module_tmp_path / "project"), NAME, mlflow_database)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(scene.root)
        for name, value in scene.env.items():
            patch.setenv(name, value)
        for _ in range(2):
            scene.promote(scene.publish())
        scene.publish(min_robust_accuracy={"1/255": 0.9})
        yield scene


@pytest.fixture(scope="module")
def prometheus(scene: Scene, service: str) -> Iterator[str]:
    needs("prometheus")
    with scene.prometheus(service) as url:
        yield url


class Guarded(NamedTuple):
    """A console that requires keys and reads Prometheus if it is installed, and a key that opens it."""

    url: str
    secret: str


@pytest.fixture(scope="module")
def guarded(scene: Scene, service: str, module_tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Guarded]:
    ring = module_tmp_path / "api.json"
    _, secret = api_keys.create(ring, role=api_keys.Role.OPERATE, name="on-call")
    settings = {"BUCKLER_REQUIRE_KEYS": "always", "BUCKLER_API_KEYS": str(ring)}
    if shutil.which("prometheus"):
        settings["BUCKLER_PROMETHEUS_URL"] = request.getfixturevalue("prometheus")
    with scene.console(service, **settings) as url:
        yield Guarded(url, secret)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "Größe – Läsion Ü.jpg"
    path.write_bytes(encode("JPEG", (160, 120)))
    return path


def open_engineer(page: Page, console: str) -> None:
    page.goto(f"{console}/engineer")
    page.wait_for_selector(".side", timeout=120 * SECOND)
    for panel in ("alerts", "live", "jobs"):
        page.wait_for_selector(f"[data-panel$={panel}][data-loaded]")


def confirm(page: Page, button: str, answer: str) -> None:
    page.get_by_role("button", name=re.compile(button)).click()
    page.get_by_role("dialog").get_by_role("button", name=answer, exact=True).click()


def test_a_dropped_picture_is_answered(page, console, picture):
    page.goto(console)
    content = list(picture.read_bytes())
    transfer = page.evaluate_handle(
        """([bytes, name]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, {type: "image/jpeg"}));
            return transfer;
        }""",
        [content, picture.name],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    page.wait_for_selector("article.answer")
    expect(page.get_by_role("status").first).to_have_text(f"Answer for {picture.name}")
    expect(page.locator(".answer .label")).to_contain_text(re.compile("benign|malignant"))
    expect(page.locator(".answer .advice")).to_have_text(re.compile("No automatic warning|Needs review"))
    expect(page.locator(".answer .bar-value").first).to_contain_text("%")
    expect(page.locator(".answer")).to_contain_text("flagged above")
    expect(page.locator(".answer")).to_contain_text(NAME)
    widths = page.locator(".views img").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert widths == [160, 160]


def test_the_picture_page_works_with_the_keyboard_alone(page, console, picture):
    page.on("filechooser", lambda _: None)  # otherwise the chooser may open before it is expected
    page.goto(console)
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_text("All limits")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#file")).to_be_focused()
    with page.expect_file_chooser() as chosen:
        page.keyboard.press("Space")
    chosen.value.set_files(picture)
    page.wait_for_selector("article.answer")
    expect(page.locator("#answer")).to_be_focused()


def test_a_file_that_is_not_a_picture_is_refused_in_plain_words(page, console, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("no picture")
    page.goto(console)
    page.set_input_files("#file", notes)
    expect(page.get_by_role("alert")).to_contain_text("The file is not a picture of a supported format")
    expect(page.get_by_role("alert")).to_contain_text("Send one of these with one picture: JPEG, PNG, DICOM")
    expect(page.locator("#attack")).to_be_hidden()


def test_the_attack_switch_shows_the_picture_before_and_after_within_the_radius(page, console, picture):
    choose(page, console, picture)
    page.get_by_role("switch", name="Attack").check()
    page.wait_for_selector(".pair", timeout=180 * SECOND)
    expect(page.locator(".perturbation")).to_contain_text("Largest change 2 of 255 levels")
    expect(page.locator("#attacked .bars")).to_have_count(2)
    expect(page.locator("#attacked")).to_contain_text(re.compile("This attack (changed|did not change) the answer"))
    page.get_by_role("radio", name="8/255").check()
    expect(page.locator(".perturbation")).to_contain_text("Largest change 8 of 255 levels")
    assert largest_change(page) == 8
    for name, words in (
        ("Random noise", "This noise"),
        ("PGD", "This attack"),
        ("Knows the detector", "This attack"),
    ):
        page.get_by_role("radio", name=name).check()
        expect(page.locator("#attack-status")).to_have_text(f"{name}, at most 8/255")
        expect(page.locator(".outcome")).to_contain_text(words)
        assert 0 < largest_change(page) <= 8
    expect(page.locator("[data-attack]:visible")).to_have_text(re.compile("has the model, the detector"))


def largest_change(page: Page) -> int:
    """Return the largest difference of the two pictures on the page, as the browser decodes them."""
    return page.evaluate(
        """async () => {
            const pixels = [];
            for (const image of document.querySelectorAll(".pair section:not(.perturbation) img")) {
                await image.decode();
                const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
                const context = canvas.getContext("2d");
                context.drawImage(image, 0, 0);
                pixels.push(context.getImageData(0, 0, canvas.width, canvas.height).data);
            }
            return Math.max(...pixels[0].map((value, place) => Math.abs(value - pixels[1][place])));
        }"""
    )


def test_the_engineers_page_shows_both_versions_and_why_one_may_not_serve(page, console):
    open_engineer(page, console)
    expect(page.get_by_role("heading", level=1)).to_have_text(NAME)
    champion, challenger = page.locator(".side").all()
    expect(champion).to_contain_text("Passed its gate")
    expect(challenger).to_contain_text("Did not pass its gate")
    expect(challenger).to_contain_text(re.compile(r"robust accuracy.*0\.400 < 0\.900"))
    champion.get_by_text("Lineage").click()
    for part in ("sha256:data", "2" * 40, "expires"):
        expect(champion).to_contain_text(part)
    marks = page.locator(".chart title").all_text_contents()
    assert "champion (version 2), up to 1/255: 40.0\u202f% (30.9\u202f% to 49.8\u202f%)" in marks
    expect(page.locator("[data-panel$=live]")).to_contain_text("No answer from")
    expect(page.locator("[data-panel$=alerts]")).to_contain_text("Neither Prometheus nor Alertmanager answers")
    expect(page.locator("[data-panel$=jobs]")).to_contain_text("No job has run here")


def test_a_promotion_against_the_gate_is_refused_with_its_reasons(page, console, scene):
    open_engineer(page, console)
    confirm(page, "Promote version 3", "Promote")
    expect(page.get_by_role("alert")).to_contain_text("Refused: version 3 of haut-läsion is not promoted")
    expect(page.get_by_role("alert")).to_contain_text("0.400 < 0.900")
    expect(page.get_by_role("alert")).to_contain_text("The champion has not changed")
    assert scene.champion() == "2"


def test_cancelling_changes_nothing(page, console, scene):
    open_engineer(page, console)
    confirm(page, "Roll back", "Cancel")
    page.get_by_role("button", name=re.compile("Roll back")).click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert scene.champion() == "2"


def test_a_roll_back_reaches_the_service_and_the_audit_log(page, console, scene, service, picture):
    choose(page, console, picture)  # the console now keeps the card of version 2
    open_engineer(page, console)
    confirm(page, "Roll back", "Roll back")
    expect(page.locator("#outcome .done")).to_contain_text("Rolled back: the champion is version 1.")
    assert scene.champion() == "1"
    expect(page.locator(".side").first).to_contain_text("version 1")
    expect(page.get_by_role("button", name=re.compile("Roll back"))).to_be_disabled()
    log = scene.root / "audit/audit.jsonl"
    (line,) = [line for line in log.read_text().splitlines() if '"roll_back"' in line]
    assert '"client":"loopback"' in line.replace(" ", "")
    assert audit_chain.verify(log).problem is None
    wait_for(lambda: httpx.get(f"{service}/model", timeout=60).json()["model"]["version"] == "1")
    choose(page, console, picture)
    page.get_by_text("Model, request and limits").click()
    expect(page.locator(".answer-more")).to_contain_text(re.compile(r"version 1\b.*valid until", re.DOTALL))


def test_the_page_shows_what_the_watch_found_about_the_champion(page, console, scene):
    number = scene.champion()
    restate(scene.model, number, "canary", Claim("degraded", "0 of 3 known answers"))
    open_engineer(page, console)
    champion = page.locator(".side").first
    expect(champion).to_contain_text("Degraded")
    expect(champion).to_contain_text("canary: 0 of 3 known answers")
    restate(scene.model, number, "canary", None, expires_at=datetime(2099, 1, 1, tzinfo=UTC))
    open_engineer(page, console)
    expect(champion).to_contain_text("verdict valid, renewed, until 2099-01-01")


def test_every_problem_of_the_champion_is_listed(scene):
    number = scene.champion()
    good = scene.model.version(number)
    for tag in (registry.STANDING_TAG, registry.PROMOTION_TAG):
        scene.model.tag(number, tag, "{")
    try:
        champion = ConsoleRegistry(Settings(model_name=NAME)).overview().champion
    finally:
        scene.model.tag(number, registry.STANDING_TAG, good.standing)
        scene.model.tag(number, registry.PROMOTION_TAG, good.promotion)
    promoted, standing = champion.problems
    assert f"the promotion of version {number} of haut-läsion is not valid" in promoted
    assert f"the standing of version {number} of haut-läsion is not valid" in standing


@pytest.mark.parametrize("page", [{"color_scheme": scheme} for scheme in ("light", "dark")], indirect=True)
def test_both_pages_are_accessible(page, console, picture):
    choose(page, console, picture)
    page.get_by_role("switch", name="Attack").check()
    page.wait_for_selector(".pair", timeout=180 * SECOND)
    assert violations(page) == []
    open_engineer(page, console)
    open_all(page)
    assert violations(page) == []
    page.get_by_role("button", name=re.compile("Promote version 3")).click()
    assert violations(page) == []


@pytest.mark.parametrize("page", [{"color_scheme": "light"}], indirect=True)
def test_the_chosen_colours_are_kept(page, console):
    page.goto(console)
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_label("Colours").select_option("dark")
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    expect(page.get_by_label("Colours")).to_have_value("dark")


@pytest.mark.parametrize("page", [{"viewport": {"width": 320, "height": 640}}], indirect=True)
def test_the_pages_fit_a_phone_without_sideways_scrolling(page, console, picture):
    choose(page, console, picture)
    page.get_by_role("switch", name="Attack").check()
    page.wait_for_selector(".pair", timeout=180 * SECOND)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    open_engineer(page, console)
    open_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_no_picture_is_logged_or_stored(page, console, scene, picture):
    choose(page, console, picture)
    logs = b"".join(log.read_bytes() for log in scene.root.glob("services.console.*.log"))
    assert picture.stem.encode() not in logs
    assert b"jpg" not in logs
    kept = [path for path in scene.root.rglob("*") if path.suffix in (".jpg", ".png") and "releases" not in str(path)]
    assert [path for path in kept if "mlartifacts" not in str(path)] == []


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")


def test_signing_in_with_a_key_opens_the_engineers_page(browser, guarded):
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{guarded.url}/engineer")
        assert violations(page) == []
        sign_in(page, "bk_wrong")
        expect(page.get_by_role("alert")).to_contain_text("unknown or was revoked")
        sign_in(page, guarded.secret)
        expect(page).to_have_url(f"{guarded.url}/engineer")
        expect(page.get_by_role("heading", level=1)).to_have_text(NAME)
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_url(f"{guarded.url}/sign-in")


def test_figures_and_alerts_come_from_prometheus_if_it_runs(browser, guarded, prometheus, service, picture):
    sent = httpx.post(f"{service}/predict", files={"image": picture.read_bytes()}, timeout=60)
    assert sent.status_code == 200
    wait_for_prometheus(prometheus, 'increase(buckler_requests_total{endpoint="/predict",code="200"}[1m]) > 0')
    wait_for_prometheus(prometheus, 'ALERTS{alertname="BucklerWatchDown"}')
    with browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(60 * SECOND)
        page.goto(f"{guarded.url}/engineer")
        sign_in(page, guarded.secret)
        expect(page).to_have_url(f"{guarded.url}/engineer")
        open_engineer(page, guarded.url)
        expect(page.locator("[data-panel$=live]")).to_contain_text("From Prometheus")
        expect(page.locator("li", has_text="Traffic")).to_contain_text("a minute")
        expect(page.locator("li", has_text="Latency, median")).to_contain_text(re.compile(r"\d m?s"))
        expect(page.locator(".alert", has_text="BucklerWatchDown")).to_contain_text("pending")


def test_figures_come_from_the_service_without_prometheus(page, console, service, picture):
    choose(page, console, picture)
    open_engineer(page, console)
    choose(page, console, picture)
    open_engineer(page, console)
    live = page.locator("[data-panel$=live]")
    expect(live).to_contain_text("From the service's metrics")
    expect(live.locator("li", has_text="Traffic")).to_contain_text(re.compile("a (minute|second)"))
