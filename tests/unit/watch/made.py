"""Makes a watch whose jobs do what a test says."""

from dataclasses import asdict

from prometheus_client import CollectorRegistry, generate_latest

from buckler import watch
from buckler.watch.settings import JobParams, RecentParams, WatchParams


def job(**changes) -> JobParams:
    """Return a job that is due at night, changed."""
    values = {"cron": "17 3 * * *", "jitter_seconds": 0, "limit_seconds": 600, "retries": 0, "backoff_seconds": 0}
    return JobParams(**{**values, "misfire_grace_seconds": 3600, **changes})


def watching(**changes) -> WatchParams:
    """Return the section of params.yaml, changed; nothing follows from any job."""
    values = {
        "jobs": {name: job() for name in watch.JOBS},
        "policy": dict.fromkeys(watch.JOBS, ()),
        "promote": False,
        "suite": ({"attack": "fgsm", "epsilon_255": [1]},),
        "records": 0,
        "seed": 7,
        "recent": RecentParams("", 0),
        "service_url": "http://127.0.0.1:1",
        "key_file": "watch.key",
        "host": "127.0.0.1",
        "port": 0,
    }
    return WatchParams(**{**values, **changes})


def as_section(cfg: WatchParams) -> dict:
    """Return ``cfg`` as params.yaml holds it."""
    section = asdict(cfg)
    for name in ("policy", "suite"):
        section[name] = {k: list(v) for k, v in section[name].items()} if name == "policy" else list(section[name])
    return section


def metrics(**options) -> dict[str, float]:
    """Return what a scrape gives."""
    registry = CollectorRegistry()
    registry.register(watch.Exporter(**options))
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, value in (li.rsplit(" ", 1) for li in lines if not li.startswith("#"))}
