"""The jobs of the watch, one module each with ``run() -> Finding``."""

from collections.abc import Callable

from buckler.watch.table import Finding, check_name


def load_job(name: str) -> Callable[[], Finding]:
    """Return the function of job ``name``; TensorFlow and MLflow load only for the jobs that need them.

    Raises:
        BucklerError: There is no such job.
    """
    check_name(name)
    return LOADERS[name]()


def _reevaluate() -> Callable[[], Finding]:
    from buckler.watch.jobs import reevaluate

    return reevaluate.run


def _probe() -> Callable[[], Finding]:
    from buckler.watch.jobs import probe

    return probe.run


def _canary() -> Callable[[], Finding]:
    from buckler.watch.jobs import canary

    return canary.run


def _drift() -> Callable[[], Finding]:
    from buckler.watch.jobs import drift

    return drift.run


LOADERS: dict[str, Callable[[], Callable[[], Finding]]] = {
    "reevaluate": _reevaluate,
    "probe": _probe,
    "canary": _canary,
    "drift": _drift,
}
