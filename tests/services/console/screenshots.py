"""Takes the documentation's screenshots of the console, with the project's own model: `make screenshots`.

Needs a finished project (`make demo`) and Debian's chromium and poppler-utils. The pages show a running platform: a
separate registry with three releases of the project's model, the last judged by a floor that it does not reach; the
service after some minutes of traffic; the watch; the console; and Prometheus if it is installed.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import yaml
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from tqdm import tqdm

from benchmarks.servers import free_port
from buckler import params, watch
from buckler.data import manifest
from buckler.release.policy import Policy
from tests.services.console.scene import CHROMIUM, Scene

ROOT = Path(__file__).parents[3]
DEFAULT_OUT = ROOT / "docs/images"
MAX_BYTES = 300_000
TRAFFIC_SECONDS = 240.0  # sparklines have a point per minute
PAUSE_SECONDS = 0.4
SEVERAL = 6
DESK, PHONE = {"width": 1120, "height": 700}, {"width": 390, "height": 844}
SCRAPED_SECONDS = 5.0  # Prometheus has scraped a change after this time


def main() -> None:
    """Parse the arguments and take the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument("--traffic-seconds", type=float, default=TRAFFIC_SECONDS)
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    policy = params.load("gate", Policy, ROOT / "params.yaml")
    pictures = [ROOT / path for path in manifest.read(ROOT / "data/splits/test.csv")["path"]]
    random.Random(7).shuffle(pictures)  # the file is sorted by class
    with tempfile.TemporaryDirectory(prefix="buckler-screens-") as scratch, ExitStack() as stack:
        scene = Scene(Path(scratch) / "scene", ROOT, params.read(ROOT / "params.yaml")["publish"]["model_name"])
        os.environ.update(scene.env)
        os.chdir(scene.root)
        for number in (scene.publish(policy), scene.publish(policy)):
            scene.promote(number)
        scene.publish(policy, min_robust_accuracy={"1/255": 0.6})
        _prepare_watch(scene.root)
        _run("reevaluate")
        service = stack.enter_context(scene.service())
        watching = stack.enter_context(scene.watch(service))
        settings = {"BUCKLER_WATCH_URL": watching}
        if shutil.which("prometheus"):
            settings["BUCKLER_PROMETHEUS_URL"] = stack.enter_context(scene.prometheus(service, watching))
        _send(service, pictures, arguments.traffic_seconds)
        _run("drift")
        time.sleep(SCRAPED_SECONDS)
        console = stack.enter_context(scene.console(service, **settings))
        _take(console, out, pictures[:SEVERAL])


def _prepare_watch(root: Path) -> None:
    """Link the project's data into ``root`` and write its params.yaml there, with a free port for the watch."""
    (root / "data").symlink_to(ROOT / "data")
    settings = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    settings["watch"]["port"] = free_port()
    (root / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def _run(job: str) -> None:
    """Run a job of the watch now."""
    found = watch.run_once(job)
    if found.outcome == "error":
        raise SystemExit(f"error: {job}: {found.message}")


def _send(service: str, pictures: list[Path], seconds: float) -> None:
    """Send pictures to the service for ``seconds``."""
    with httpx.Client(base_url=service, timeout=30) as http:
        for number in tqdm(range(int(seconds / PAUSE_SECONDS)), desc="traffic", unit="picture"):
            picture = pictures[number % len(pictures)]
            http.post("/predict", files={"image": ("image", picture.read_bytes())}).raise_for_status()
            time.sleep(PAUSE_SECONDS)


def _take(console: str, out: Path, several: list[Path]) -> None:
    """Write all pictures to ``out``; ``several`` are classified together."""
    told = json.loads((ROOT / "reports/ask/answers.json").read_text())["flipped"]  # the story of `make demo`
    picture = ROOT / "reports/ask/flipped_clean.png"
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        for scheme in ("light", "dark"):
            page = _open(browser, console, color_scheme=scheme, viewport=DESK)
            if scheme == "light":
                _save(page, out / "console-empty.png")
            _classify(page, [picture])
            _save(page, out / f"console-picture-{scheme}.png")
            if scheme == "light":
                _print(page, out / "console-print.png")
                _attack(page, told["radius"])
                _save(page, out / "console-attack.png", "#attack")
            page.goto(f"{console}/engineer")
            page.wait_for_selector(".sides")
            page.wait_for_selector(".figures")
            _save(page, out / f"console-engineer-{scheme}.png")
        page = _open(browser, console, color_scheme="light", viewport=DESK)
        _classify(page, several)
        _save(page, out / "console-several.png")
        page = _open(browser, console, color_scheme="light", viewport=PHONE, has_touch=True, is_mobile=True)
        _classify(page, [picture])
        _save(page, out / "console-phone.png")
        browser.close()


def _open(browser: Browser, console: str, **options: Any) -> Page:
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(60_000)
    page.goto(console)
    page.wait_for_load_state("networkidle")
    return page


def _classify(page: Page, pictures: list[Path]) -> None:
    page.set_input_files("#file", pictures)
    page.wait_for_selector("article.answer")
    page.wait_for_selector("#status:not(.busy)")


def _attack(page: Page, radius: str) -> None:
    page.get_by_role("switch", name="Attack").check()
    page.get_by_role("radio", name="PGD", exact=True).check()
    page.get_by_role("radio", name=radius, exact=True).check()
    page.wait_for_selector(".pair, #attacked .problem")
    page.wait_for_selector("#attacked:not([aria-busy])", state="attached")


def _print(page: Page, path: Path) -> None:
    """Save the first sheet of what the page prints."""
    with tempfile.TemporaryDirectory() as scratch:
        pdf = Path(scratch) / "print.pdf"
        page.pdf(path=pdf, format="A4", prefer_css_page_size=True)
        command = ["pdftoppm", "-r", "80", "-png", "-singlefile", str(pdf), str(path.with_suffix(""))]
        subprocess.run(command, check=True)
    _shrink(path)


def _save(page: Page, path: Path, selector: str | None = None) -> None:
    """Save the page, or one element of it."""
    if selector:
        page.locator(selector).screenshot(path=path)
    else:
        # A full-page screenshot would end the emulation of a touch screen.
        height = page.evaluate("Math.max(document.documentElement.scrollHeight, innerHeight)")
        page.set_viewport_size({"width": page.viewport_size["width"], "height": height})
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=path)
    _shrink(path)


def _shrink(path: Path) -> None:
    """Reduce a picture to 256 colours to keep the file small."""
    Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise SystemExit(f"error: expected {path} to be at most {MAX_BYTES} bytes, got {size}")


if __name__ == "__main__":
    main()
