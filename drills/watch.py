"""Drills about the watch on the full platform: faults are detected, reported and rolled back."""

import csv
import io
import random
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from benchmarks.load import Load
from buckler.client import Answer, Client, ServiceError
from buckler.detection.reasons import Reason
from buckler.modality.picture.images import load_pixels, to_png
from buckler.state import paths
from buckler.trust import audit_chain
from drills.platform import SOON, Platform, platform
from drills.registry import DrillError
from drills.report import Drill
from drills.scene import DrillScene
from drills.service import wait_until

PATIENCE = 240.0
SCRAPE = 15.0  # seconds between scrapes, as in monitoring/prometheus/prometheus.yml
LEAST_LEFT = 45  # seconds for which an expiring verdict is valid; the service needs part of them to start
QUERIES = 120
EPSILON = 8 / 255
WINDOW = 120  # pictures that the job `drift` compares
QUICK = [{"attack": "fgsm", "radii": ["1/255"]}]
LONG = [{"attack": "fgsm", "radii": ["1/255", "2/255"]}, {"attack": "pgd", "radii": ["1/255", "2/255"], "steps": 40}]


def moved_by_hand(scene: DrillScene, drill: Drill) -> None:
    """A model that failed its gate becomes champion by hand: it is refused, an alert fires, the old one answers."""
    first = scene.champion()
    worse = scene.registry.register(scene.builder.build(failing=True))
    with platform(scene, {}) as running, running.service.clients(2) as load:
        moved = time.monotonic()
        scene.registry.point_to(worse)
        wait_until(lambda: running.service.metric("buckler_model_refused_total") > 0, PATIENCE, "the refusal")
        drill.figures["seconds_to_refusal"] = round(time.monotonic() - moved, 1)
        running.wait_for_alert("BucklerModelRefused")
        drill.figures["seconds_to_alert"] = round(time.monotonic() - moved, 1)
        versions = {each.version for each in load.after(moved) if each.status == "200"}
    drill.figures |= {"answered_by_versions": sorted(versions), "failed": load.failed()}
    drill.require(versions == {first}, f"expected answers of version {first} only, got {sorted(versions)}")
    drill.require(load.failed() == 0, f"{load.failed()} requests failed")
    delay = drill.figures["seconds_to_alert"] - drill.figures["seconds_to_refusal"]
    drill.require(delay <= 2 * SCRAPE + 2, f"expected the alert within two scrapes, it took {delay:.0f} s")


def verdict_expires(scene: DrillScene, drill: Drill) -> None:
    """The live model's verdict expires: every answer is `review`, and the alert fires."""
    expires = (datetime.now(UTC) + timedelta(seconds=LEAST_LEFT)).replace(microsecond=0)
    scene.registry.promote(scene.registry.register(scene.builder.build(expires=expires)))
    with platform(scene, {}) as running, Client(running.service.url) as client:
        picture = next(_pictures(running.directory))
        if datetime.now(UTC) < expires:
            drill.require(
                Reason.MODEL_DEGRADED not in client.predict(picture).reasons,
                "degraded before the verdict expired",
            )
        wait_until(lambda: Reason.MODEL_DEGRADED in client.predict(picture).reasons, PATIENCE, "a degraded answer")
        drill.figures["seconds_to_degraded"] = _since(expires)
        drill.require(client.predict(picture).decision == "review", "a degraded answer is not `review`")
        running.wait_for_alert("BucklerVerdictExpired")
        drill.figures["seconds_to_alert"] = _since(expires)


def query_attack(scene: DrillScene, drill: Drill) -> None:
    """Square attacks through REST: its queries are flagged, and the alert fires."""
    from buckler.attacks.base import Batch, ScoresOnly
    from buckler.attacks.square import Square
    from buckler.modality.base import Radius

    scene.champion()
    with platform(scene, {}) as running, Client(running.service.url) as client:
        endpoint = QueriedService(client)
        size = client.model_card()["model"]["image_size"]
        pixels = load_pixels(next(_pictures(running.directory)), size=size)
        label = endpoint(pixels[None]).argmax(axis=1)
        began = time.monotonic()
        search = Square(queries=QUERIES, early_exit=False)
        search(ScoresOnly(endpoint), Batch(pixels[None], label, seed=7), Radius(EPSILON))
        drill.figures |= {"queries": endpoint.queries, "flagged_or_refused": endpoint.detected}
        drill.figures["first_noticed_at_query"] = endpoint.first
        running.wait_for_alert("BucklerQueryAttack")
        drill.figures["seconds_to_alert"] = round(time.monotonic() - began, 1)
    drill.require(endpoint.first is not None and endpoint.first <= 50, "not detected within 50 queries")


class QueriedService:
    """The service as a function from images to scores, which counts the detected queries.

    Attributes:
        queries: Pictures sent.
        detected: Pictures flagged or refused with the reason ``query_attack``.
        first: Number of the first detected picture; None without one.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._labels: tuple[str, ...] = tuple(client.model_card()["model"]["labels"])
        self.queries = self.detected = 0
        self.first: int | None = None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return log-probabilities ``(batch, classes)``; equal ones for a refused picture."""
        return np.log(np.maximum([self._probabilities(image) for image in images], 1e-12)).astype(np.float32)

    def _probabilities(self, image: np.ndarray) -> list[float]:
        self.queries += 1
        try:
            answer: Answer | None = self._client.predict(to_png(image))
        except ServiceError as error:
            if error.code != "query_attack":
                raise
            answer = None
        if answer is None or Reason.QUERY_ATTACK in answer.reasons:
            self.detected += 1
            self.first = self.first or self.queries
        shares = answer.probabilities if answer else {}
        return [shares.get(label, 1 / len(self._labels)) for label in self._labels]


def drift(scene: DrillScene, drill: Drill) -> None:
    """Clean traffic raises no drift alert; one window of darker pictures from another camera does."""
    scene.champion()
    watching = {"jobs": {"drift": {"cron": "* * * * *"}}}
    sections = {"drift": {"window_records": WINDOW}}
    with platform(scene, watching, **sections) as running, Client(running.service.url) as client:
        pictures = list(_pictures(running.directory))
        # Split files are sorted by class; a window of one class would drift.
        random.Random(7).shuffle(pictures)  # noqa: S311 - an order, not a secret
        drill.figures["window_pictures"] = WINDOW
        for place in range(WINDOW):
            client.predict(pictures[place % len(pictures)])
        before = running.watched("buckler_watch_runs_total", job="drift", outcome="passed")
        wait_until(
            lambda: running.watched("buckler_watch_runs_total", job="drift", outcome="passed") > before + 1,
            PATIENCE,
            "two runs of the job on clean traffic",
        )
        time.sleep(2 * SCRAPE)
        drill.figures["drift_on_clean_traffic"] = int(running.watched("buckler_drift_detected"))
        drill.require(not running.states("BucklerDrift"), "the alert is active on clean traffic")
        drill.require(drill.figures["drift_on_clean_traffic"] == 0, "drift was found in clean traffic")
        shifted = time.monotonic()
        for place in range(WINDOW):
            client.predict(_other_camera(pictures[place % len(pictures)]))
        drill.figures["seconds_to_send_the_window"] = round(time.monotonic() - shifted, 1)
        running.wait_for_alert("BucklerDrift")
        drill.figures["seconds_to_alert"] = round(time.monotonic() - shifted, 1)


def reevaluation_fails(scene: DrillScene, drill: Drill) -> None:
    """The scheduled re-evaluation fails the champion on the newest pictures: it is rolled back, no request fails."""
    first = scene.champion()
    second = scene.champion()
    newest = scene.directory / "newest"
    watching = {
        "suite": QUICK,
        "records": 60,
        "recent": {"path": str(newest), "records": 0},
        "policy": {"reevaluate": ["alert", "rollback"]},
        "jobs": {"reevaluate": {"cron": SOON}},
    }
    _mislabel(scene.builder.project, newest)
    with platform(scene, watching) as running, running.service.clients(2) as load:
        wait_until(lambda: _is_running(running), PATIENCE, "the re-evaluation to begin")
        began = time.monotonic()
        wait_until(lambda: scene.registry.champion() == first, PATIENCE, "the roll-back")
        drill.figures["seconds_to_roll_back"] = round(time.monotonic() - began, 1)
        wait_until(lambda: _last_versions(load, 8) == {first}, PATIENCE, "answers of the previous version")
        drill.figures["seconds_to_answers_of_the_version_before"] = round(time.monotonic() - began, 1)
        running.wait_for_alert("BucklerPolicyAction")
        drill.figures["seconds_to_alert"] = round(time.monotonic() - began, 1)
        drill.figures["audit_log_holds"] = _audit_is_valid(running)
    drill.figures |= {"versions": [second, first], "requests": len(load.requests), "failed": load.failed()}
    drill.require(load.failed() == 0, f"{load.failed()} requests failed")
    drill.require(drill.figures["audit_log_holds"], "the watch's audit log is invalid")


def watch_killed(scene: DrillScene, drill: Drill) -> None:
    """The watch and its job are killed during a re-evaluation; the restarted watch resumes and finishes it."""
    scene.champion()
    watching = {"suite": LONG, "records": 0, "jobs": {"reevaluate": {"cron": SOON}}}
    with platform(scene, watching) as running:
        wait_until(lambda: _is_running(running), PATIENCE, "the re-evaluation to begin")
        journal = running.directory / paths.WATCH_JOURNAL
        wait_until(lambda: any(journal.rglob("*.npz")), PATIENCE, "the first attack to finish")
        running.kill_watch()
        killed = time.monotonic()
        running.start_watch()
        wait_until(lambda: _is_running(running), PATIENCE, "the re-evaluation to begin again")
        drill.figures["seconds_to_begin_again"] = round(time.monotonic() - killed, 1)
        wait_until(lambda: _finished(running) > 0, 2 * PATIENCE, "the end of the re-evaluation")
        drill.figures["seconds_to_caught_up"] = round(time.monotonic() - killed, 1)
        drill.figures["interrupted"] = int(
            running.watched("buckler_watch_runs_total", job="reevaluate", outcome="error")
        )
    drill.require(drill.figures["interrupted"] == 1, "the interrupted run is not in the history")


def _is_running(running: Platform) -> bool:
    return running.watched("buckler_watch_running", job="reevaluate") == 1


def _finished(running: Platform) -> float:
    outcomes = ("passed", "failed")
    return sum(running.watched("buckler_watch_runs_total", job="reevaluate", outcome=outcome) for outcome in outcomes)


def _last_versions(load: Load, count: int) -> set[str]:
    return {each.version for each in load.requests[-count:] if each.status == "200"}


def _audit_is_valid(running: Platform) -> bool:
    return audit_chain.verify(running.directory / paths.WATCH_AUDIT_LOG).problem is None


def _since(moment: datetime) -> float:
    return round((datetime.now(UTC) - moment).total_seconds(), 1)


def _rows(project: Path, split: str = "test") -> list[dict[str, str]]:
    with (project / f"data/splits/{split}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _pictures(directory: Path) -> Iterator[bytes]:
    """Yield the files of the test pictures."""
    for row in _rows(directory):
        yield (directory / row["path"]).read_bytes()


def _other_camera(content: bytes) -> bytes:
    """Return a darker copy of a picture with a colour cast."""
    with Image.open(io.BytesIO(content)) as opened:
        picture = ImageEnhance.Brightness(opened.convert("RGB")).enhance(0.7)
    red, green, blue = picture.split()
    cast = Image.merge("RGB", (red, green.point(lambda v: int(v * 0.92)), blue.point(lambda v: int(v * 0.8))))
    buffer = io.BytesIO()
    cast.save(buffer, format="PNG")
    return buffer.getvalue()


def _mislabel(project: Path, newest: Path) -> None:
    """Copy test pictures into the folders of the other class, so that a correct model seems wrong."""
    rows = _rows(project)
    labels = sorted({row["label"] for row in rows})
    if len(labels) != 2:
        raise DrillError(f"this drill needs two classes, the project has {labels}")
    other = dict(zip(labels, reversed(labels), strict=True))
    for row in rows[:80]:
        target = newest / other[row["label"]]
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(project / row["path"], target / Path(row["path"]).name)
