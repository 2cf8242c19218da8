"""Takes the documentation's screenshots of the console, with the project's own model: `make screenshots`.

Needs a finished project (`make demo`) and Debian's chromium. The pages show a running platform: a separate registry
with three releases of the project's model, the last judged by a floor that it does not reach; the service after some
minutes of traffic; the watch; the console; and Prometheus if it is installed.
"""

import argparse
import json
import os
import random
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import yaml
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from tqdm import tqdm

from benchmarks.servers import free_port
from buckler import params, watch
from buckler.data import manifest
from buckler.release.policy import Policy
from tests.services.console.scene import CHROMIUM, Scene

ROOT = Path(__file__).parents[3]
DEFAULT_OUT = ROOT / "docs/images"
MAX_BYTES = 300_000
TRAFFIC_SECONDS = 600.0  # sparklines have a point per minute
PAUSE_SECONDS = 0.4
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
        scene.publish(policy, min_robust_accuracy={1: 0.6})
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
        _take(console, out)


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


def _take(console: str, out: Path) -> None:
    asked = json.loads((ROOT / "reports/ask/answers.json").read_text())  # the picture of `make demo`
    picture = ROOT / "data/images" / asked["picture"]
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        for scheme in ("light", "dark"):
            context = browser.new_context(color_scheme=scheme, viewport={"width": 1120, "height": 700})
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.goto(console)
            page.set_input_files("#file", picture)
            page.wait_for_selector("article.answer")
            _save(page, out / f"console-picture-{scheme}.png")
            if scheme == "light":
                _attack(page, asked["epsilon_255"])
                _save(page, out / "console-attack.png", "#attack")
            page.goto(f"{console}/engineer")
            page.wait_for_selector(".sides")
            page.wait_for_selector(".figures")
            _save(page, out / f"console-engineer-{scheme}.png")
            context.close()
        phone = browser.new_context(color_scheme="light", viewport={"width": 320, "height": 640})
        page = phone.new_page()
        page.goto(console)
        page.set_input_files("#file", picture)
        page.wait_for_selector("article.answer")
        _save(page, out / "console-phone.png")
        browser.close()


def _attack(page: Page, epsilon_255: float) -> None:
    page.get_by_role("switch", name="Attack").check()
    page.get_by_role("radio", name=f"{epsilon_255:g}/255", exact=True).check()
    page.wait_for_selector(".pair, #attacked .problem")
    page.wait_for_selector("#attacked:not([aria-busy])", state="attached")


def _save(page: Page, path: Path, selector: str | None = None) -> None:
    """Save the page, or one element of it, with 256 colours to keep the file small."""
    if selector:
        page.locator(selector).screenshot(path=path)
    else:
        page.screenshot(path=path, full_page=True)
    Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise SystemExit(f"error: expected {path} to be at most {MAX_BYTES} bytes, got {size}")


if __name__ == "__main__":
    main()
