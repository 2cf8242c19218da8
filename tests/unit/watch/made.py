"""Builds settings of the watch for tests, and reads its metrics."""

from dataclasses import asdict

from prometheus_client import CollectorRegistry, generate_latest

from buckler import watch
from buckler.watch.settings import JobParams, RecentParams, WatchParams


def job(**changes) -> JobParams:
    """Return a job that is due at night, with ``changes``."""
    values = {"cron": "17 3 * * *", "jitter_seconds": 0, "limit_seconds": 600, "retries": 0, "backoff_seconds": 0}
    return JobParams(**{**values, "misfire_grace_seconds": 3600, **changes})


def watching(**changes) -> WatchParams:
    """Return the section ``watch`` of params.yaml with ``changes``; by default no job has an action."""
    values = {
        "jobs": {name: job() for name in watch.JOBS},
        "policy": dict.fromkeys(watch.JOBS, ()),
        "promote": False,
        "suite": ({"attack": "fgsm", "radii": ["1/255"]},),
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
    """Return ``cfg`` as a section of params.yaml."""
    section = asdict(cfg)
    for name in ("policy", "suite"):
        section[name] = {k: list(v) for k, v in section[name].items()} if name == "policy" else list(section[name])
    return section


def metrics(**options) -> dict[str, float]:
    """Return the value of each series of a scrape."""
    registry = CollectorRegistry()
    with watch.History() as history:
        registry.register(watch.Exporter(history, **options))
        lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, value in (li.rsplit(" ", 1) for li in lines if not li.startswith("#"))}
