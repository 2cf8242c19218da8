"""The picture page in a real browser: several files, history, zoom, print, samples; with a real service."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from buckler.modality.picture import images, synthetic
from buckler.serving.model_card import SYNTHETIC_BANNER
from tests.services.console.chromium import SECOND, choose, open_all, violations
from tests.services.console.scene import Scene, small_project

pytestmark = pytest.mark.slow

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
LIMIT = 1_000_000


@pytest.fixture(scope="module")
def scene(module_tmp_path: Path, mlflow_database: str) -> Iterator[Scene]:
    """One promoted version."""
    scene = Scene(module_tmp_path / "scene", small_project(module_tmp_path / "project"), "pictures", mlflow_database)
    scene.env["BUCKLER_BODY_LIMIT_BYTES"] = str(LIMIT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(scene.root)
        for name, value in scene.env.items():
            patch.setenv(name, value)
        scene.promote(scene.publish())
        yield scene


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three pictures."""
    paths = [tmp_path / f"patient {number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(images.to_png(synthetic.draw("malignant", number, seed=5, size=64)))
    return paths


@pytest.fixture
def picture(files: list[Path]) -> Path:
    return files[0]


@pytest.fixture
def asked(page: Page) -> list[str]:
    """The addresses of the page's requests for an answer, as they are sent."""
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.url.endswith("/ask") else None)
    return sent


def give(page: Page, console: str, files: list[Path]) -> None:
    page.goto(console)
    page.set_input_files("#file", files)


def wait_until_done(page: Page) -> None:
    expect(page.locator("#status")).not_to_have_class("status busy")


def names(page: Page) -> list[str]:
    return page.locator("#entries strong").all_inner_texts()


def test_several_files_get_an_answer_or_an_error_each(page, console, files, tmp_path, asked):
    notes, large = tmp_path / "notes.txt", tmp_path / "large.png"
    notes.write_text("no picture")
    large.write_bytes(bytes(LIMIT + 1))
    give(page, console, [*files, notes, large])
    expect(page.locator("#status")).to_have_text("5 of 5 done, 2 not answered")
    rows = page.locator("#entries li")
    assert names(page) == [*(file.name for file in files), "notes.txt", "large.png"]
    for number in range(3):
        expect(rows.nth(number)).to_contain_text("no automatic warning")
        expect(rows.nth(number)).to_contain_text("%")
    expect(rows.nth(3)).to_contain_text("The file is not a picture of a supported format")
    expect(rows.nth(4)).to_contain_text("The file is too large")
    assert len(asked) == 4  # the file that is too large is not sent
    thumbnails = page.locator("#entries img").evaluate_all("all => all.map(each => each.naturalWidth)")
    assert thumbnails == [96, 96, 96, 0, 0]


def test_a_row_opens_its_answer(page, console, files, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("no picture")
    give(page, console, [*files, notes])
    wait_until_done(page)
    requests = []
    for row in page.locator("#entries button").all()[:3]:
        row.click()
        expect(row).to_have_attribute("aria-current", "true")
        expect(page.locator("[aria-current=true].entry")).to_have_count(1)
        requests.append(page.locator("article.answer").get_attribute("data-request"))
    assert len(set(requests)) == 3
    page.locator("#entries button").nth(3).click()
    expect(page.get_by_role("alert")).to_contain_text("not a picture of a supported format")
    expect(page.locator("article.answer")).to_have_count(0)
    expect(page.locator("#attack")).to_be_hidden()


def test_two_pictures_are_sent_at_a_time_and_the_rest_can_be_cancelled(page, console, files, asked):
    held: list[Route] = []
    page.route("**/ask", lambda route: held.append(route))
    give(page, console, files)
    expect(page.get_by_role("button", name="Cancel the rest")).to_be_visible()
    page.wait_for_timeout(0.5 * SECOND)
    assert len(held) == 2
    held[0].continue_()
    expect(page.locator("#entries li").nth(0)).to_contain_text("no automatic warning")
    assert len(asked) == 3
    page.get_by_role("button", name="Cancel the rest").click()
    expect(page.locator("#status")).to_have_text("3 of 3 done, 2 not answered")
    for number in (1, 2):
        expect(page.locator("#entries li").nth(number)).to_contain_text("Cancelled")
    expect(page.get_by_role("button", name="Cancel the rest")).to_be_hidden()
    page.unroute("**/ask")
    page.locator("#entries button").nth(2).click()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#entries li").nth(2)).to_contain_text("no automatic warning")
    expect(page.locator("#status")).to_have_text(f"Answer for {files[2].name}")
    expect(page.locator("article.answer")).to_have_count(1)


def test_what_needs_review_comes_first_on_request(page, console, files, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("no picture")
    give(page, console, [files[0], notes, files[1]])
    wait_until_done(page)
    page.get_by_label("Needs review first").check()
    assert names(page) == ["notes.txt", files[0].name, files[1].name]
    page.get_by_label("Needs review first").uncheck()
    assert names(page) == [files[0].name, "notes.txt", files[1].name]


def test_a_file_over_the_limit_is_refused_before_it_is_sent(page, console, tmp_path, asked):
    large = tmp_path / "large.png"
    large.write_bytes(bytes(LIMIT + 600_000))
    give(page, console, [large])
    expect(page.get_by_role("alert")).to_contain_text("The file is too large")
    expect(page.get_by_role("alert")).to_contain_text("at most 1 MB. This one has 1.6 MB.")
    assert asked == []


def test_the_progress_of_the_upload_is_shown(page, console, picture):
    held: list[Route] = []
    page.route("**/ask", lambda route: held.append(route))
    give(page, console, [picture])
    expect(page.locator("#status")).to_contain_text(picture.name)
    expect(page.get_by_role("progressbar", name="Upload")).to_be_visible()
    held[0].continue_()
    page.wait_for_selector("article.answer")
    expect(page.get_by_role("progressbar", name="Upload")).to_be_hidden()


def test_answers_outlast_the_page_without_name_and_picture(page, console, files):
    give(page, console, files)
    wait_until_done(page)
    page.goto(f"{console}/engineer")
    page.goto(console)
    rows = page.locator("#entries li")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("picture no longer kept")
    kept = page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])")
    assert "patient" not in kept
    assert "data:" not in kept
    (answers,) = json.loads(kept)[0].values()
    assert [set(each) for each in json.loads(answers)] == [{"label", "probability", "decision", "request", "time"}] * 3
    expect(page.get_by_text("are gone when you close it")).to_be_visible()
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#session")).to_be_hidden()
    page.reload()
    expect(page.locator("#session")).to_be_hidden()


def test_signing_out_forgets_the_answers(page, console, files):
    give(page, console, files)
    wait_until_done(page)
    page.goto(f"{console}/sign-in")
    page.goto(console)
    expect(page.locator("#start")).to_be_visible()
    expect(page.locator("#session")).to_be_hidden()


def test_a_picture_is_enlarged_with_the_keyboard_alone(page, console, picture):
    choose(page, console, picture)
    button = page.get_by_role("button", name="Enlarge the picture")
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Picture")
    expect(dialog).to_be_visible()
    assert violations(page) == []
    width = "document.getElementById('zoom-image').clientWidth"
    fitting = page.evaluate(width)
    for _ in range(2):
        page.keyboard.press("+")
    assert page.evaluate(width) == pytest.approx(2.25 * fitting, rel=0.01)
    expect(page.locator("#zoom-scale")).to_have_text("225 %")
    before = page.evaluate("document.getElementById('zoom-frame').scrollLeft")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(0.5 * SECOND)
    assert page.evaluate("document.getElementById('zoom-frame').scrollLeft") > before
    page.keyboard.press("0")
    assert page.evaluate(width) == fitting
    page.get_by_role("button", name="Show heat map").press("Enter")
    expect(page.get_by_role("dialog", name="Heat map")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(button).to_be_focused()


@pytest.mark.parametrize("page", [{"color_scheme": "dark"}], indirect=True)
def test_a_print_is_the_answer_on_white_paper(page, console, picture):
    choose(page, console, picture)
    page.evaluate("window.print = () => { window.printed = true; }")
    page.get_by_role("button", name="Print or save as PDF").click()
    assert page.evaluate("window.printed")
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    background, colour = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert background == "rgb(255, 255, 255)"
    assert max(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) < 60
    for part in (
        "version 1",
        "valid until",
        "UTC",
        "sha256:",
        "Limits of the model",
        "No automatic warning",
        SYNTHETIC_BANNER,
    ):
        expect(page.locator("article.answer")).to_contain_text(part, use_inner_text=True)
    request = page.locator("article.answer").get_attribute("data-request")
    assert page.title() == f"Buckler answer {request}"
    assert picture.name not in page.locator("body").inner_text()
    for absent in ("header", ".drop", "#attack", "#start", "#session", ".answer-end"):
        expect(page.locator(absent).first).to_be_hidden()
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    expect(page.locator("#answer details").first).not_to_have_attribute("open", "")


def test_a_printed_answer_fits_one_page(page, console, picture):
    choose(page, console, picture)
    pdf = page.pdf(prefer_css_page_size=True, format="A4")
    assert pdf.count(b"/Type /Page\n") == 1


def test_a_sample_is_answered_like_any_picture(page, console):
    page.goto(console)
    expect(page.get_by_text("Generated, like those the model was trained on")).to_be_visible()
    page.locator("[data-sample]").nth(1).click()
    page.wait_for_selector("article.answer")
    expect(page.locator("#status")).to_have_text("Answer for drawn picture 2 (malignant)")
    expect(page.locator("#start")).to_be_hidden()


def test_a_pasted_picture_is_answered(page, console, picture):
    page.goto(console)
    page.evaluate(
        """bytes => {
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([new Uint8Array(bytes)], "image.png", {type: "image/png"}));
            document.dispatchEvent(new ClipboardEvent("paste", {clipboardData}));
        }""",
        list(picture.read_bytes()),
    )
    page.wait_for_selector("article.answer")


@pytest.mark.parametrize("page", [PHONE], indirect=True)
def test_a_photo_of_the_phones_camera_is_answered_in_sight(page, console, picture):
    page.goto(console)
    camera = page.locator("#camera")
    expect(page.locator(".camera")).to_be_visible()
    assert (camera.get_attribute("capture"), camera.get_attribute("accept")) == ("environment", "image/*")
    camera.set_input_files(picture)
    page.wait_for_selector("article.answer")
    assert page.locator("#answer").bounding_box()["y"] < 844 / 2


def test_without_a_touch_screen_there_is_no_camera_button(page, console):
    page.goto(console)
    expect(page.locator(".camera")).to_be_hidden()


@pytest.mark.parametrize("page", [PHONE], indirect=True)
def test_the_page_fits_a_phone(page, console, files):
    def width() -> int:
        return page.evaluate("document.documentElement.scrollWidth")

    page.goto(console)
    assert width() <= 390
    page.set_input_files("#file", files)
    wait_until_done(page)
    open_all(page)
    assert width() <= 390
    assert violations(page) == []
    page.locator(".enlarge").first.click()
    assert width() <= 390
    assert violations(page) == []


@pytest.mark.parametrize("page", [{"color_scheme": scheme} for scheme in ("light", "dark")], indirect=True)
def test_the_page_is_accessible(page, console, files, tmp_path):
    page.goto(console)
    open_all(page)
    assert violations(page) == []
    notes = tmp_path / "notes.txt"
    notes.write_text("no picture")
    page.set_input_files("#file", [*files, notes])
    wait_until_done(page)
    open_all(page)
    assert violations(page) == []


def test_the_banner_stands_on_every_page(page, console):
    for path in ("/", "/engineer", "/sign-in"):
        page.goto(console + path)
        expect(page.get_by_role("complementary", name="Warning")).to_have_text(SYNTHETIC_BANNER)


def test_an_opinion_is_recorded_and_can_be_changed(page, console, files, scene):
    give(page, console, files[:2])
    wait_until_done(page)
    page.locator("#entries button").first.click()
    request = page.locator("article.answer").get_attribute("data-request")
    for button, opinion in (("Agree", "you agree"), ("Not sure", "you are not sure")):
        page.get_by_role("button", name=button, exact=True).click()
        expect(page.locator(".opinion-outcome")).to_contain_text(f"Recorded: {opinion}")
    log = (scene.root / "audit/audit.jsonl").read_text()
    lines = [line for line in map(json.loads, log.splitlines()) if line.get("event") == "feedback"]
    assert [(line["request_id"], line["opinion"]) for line in lines[-2:]] == [(request, "agree"), (request, "unsure")]
    page.locator("#entries button").nth(1).click()
    page.locator("#entries button").first.click()
    expect(page.get_by_role("button", name="Not sure")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Agree", exact=True)).to_have_attribute("aria-pressed", "false")


def test_an_opinion_that_cannot_be_recorded_says_so(page, console, picture):
    choose(page, console, picture)
    page.locator("[name=request_id]").evaluate("field => { field.value = '0'.repeat(32); }")
    page.get_by_role("button", name="Disagree").click()
    expect(page.locator(".opinion-outcome").get_by_role("alert")).to_be_visible()
    expect(page.get_by_role("button", name="Disagree")).to_have_attribute("aria-pressed", "false")
