"""Alerts that drills on trust expect; they are waited for while the drill goes on."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from drills.platform import Platform, platform
from drills.scene import DrillScene
from drills.service import RunningService
from drills.trust.stage import Stage


class Watched:
    """The expected alerts of a platform; without a platform nothing is waited for."""

    def __init__(self, running: Platform | None, pool: ThreadPoolExecutor) -> None:
        self.running, self._pool = running, pool
        self._alerts: dict[str, Future[float]] = {}

    def expect(self, alert: str) -> None:
        """Begin to wait for an alert."""
        if self.running:
            self._alerts[alert] = self._pool.submit(self.running.wait_for_alert, alert)

    def compare(self, trust: Stage) -> None:
        """Let the watch compare registry and journal now, as it does after each of its jobs."""
        if self.running:
            trust.buckler("watch", "--once", "drift", **self.running.env)

    def seconds(self) -> dict[str, float]:
        """Wait for the expected alerts and return the seconds that each took.

        Raises:
            DrillError: One does not fire.
        """
        return {f"seconds to the alert {alert}": waiting.result() for alert, waiting in self._alerts.items()}


@contextmanager
def watched_service(scene: DrillScene) -> Iterator[tuple[RunningService, Watched]]:
    """Run the service, at full scale with watch and Prometheus, until the context ends."""
    pool = ThreadPoolExecutor()
    try:
        if scene.scale.alerts:
            with platform(scene, {}) as running:
                yield running.service, Watched(running, pool)
        else:
            with scene.service() as service:
                yield service, Watched(None, pool)
    finally:  # of a drill that failed, nobody waits for the alerts
        pool.shutdown(wait=False, cancel_futures=True)
