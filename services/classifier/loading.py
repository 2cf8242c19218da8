"""From settings to a model that may serve: verified, loaded, warm; or none."""

import gc
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buckler import signing
from buckler.errors import BucklerError, VerdictError
from services.classifier import champion, metrics
from services.classifier.champion import Candidate
from services.classifier.settings import Settings

if TYPE_CHECKING:
    from buckler.inference import Predictor

FROM_DIRECTORY = "local"  # the version of a release that was given as a directory

logger = logging.getLogger("buckler.service")


@dataclass(frozen=True, slots=True)
class Served:
    """The model that answers, and what it is called."""

    predictor: "Predictor"
    name: str
    version: str


def load_served(settings: Settings) -> Served | None:
    """Return the first release whose verdict holds; each one that is refused is logged and counted.

    A release given as a directory is meant: nothing else takes its place. For a champion that is refused,
    or a registry that does not answer, the last good release serves, if it still verifies.
    """
    bound_threads(settings.workers)
    sources = [_from_directory] if settings.release else [_from_registry, _from_last_good]
    for source in sources:
        if served := _accept(source, settings):
            return served
    logger.error("no release verifies; /predict answers 503 until one does and the service is restarted")
    return None


def keep_from_the_collector() -> None:
    """Leave what has been loaded out of garbage collection: to look through it all takes some request 80 ms."""
    gc.collect()
    gc.freeze()


def threads_each(workers: int) -> int:
    """Return a worker's share of the processors, at least one."""
    return max(1, len(os.sched_getaffinity(0)) // workers)


def bound_threads(workers: int) -> None:
    """Share the processors among the workers' TensorFlow threads, if one loads it; what the operator set stays."""
    threads = str(threads_each(workers))
    for variable in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, threads)
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def _accept(source: Callable[[Settings], Served | None], settings: Settings) -> Served | None:
    try:
        return source(settings)
    except VerdictError as error:
        _count_refused(error.reason, error)
    except (BucklerError, OSError) as error:
        _count_refused(metrics.UNAVAILABLE, error)
    return None


def _count_refused(reason: str, error: Exception) -> None:
    metrics.MODEL_REFUSED.labels(reason=reason).inc()
    logger.error("release refused (%s): %s", reason, error)


def _from_directory(settings: Settings) -> Served | None:
    assert settings.release is not None  # noqa: S101 - says so to the type checker
    return _load(Candidate(settings.release, FROM_DIRECTORY), settings)


def _from_registry(settings: Settings) -> Served | None:
    with champion.downloaded(settings) as candidate:
        served = _load(candidate, settings)
        try:
            champion.keep(candidate, settings)
        except OSError as error:  # a full disk is no reason not to serve what verified
            logger.warning("the champion's release cannot be kept for later: %s", error)
    return served


def _from_last_good(settings: Settings) -> Served | None:
    candidate = champion.last_good(settings)
    return _load(candidate, settings) if candidate else None


def _load(candidate: Candidate, settings: Settings) -> Served:
    from buckler.inference import Predictor  # loads an engine: in the workers, not in their supervisor

    started = time.perf_counter()
    predictor = Predictor.load(candidate.path, signing.load_public_key(), threads=threads_each(settings.workers))
    predictor.warm_up()
    logger.info(
        "serving %s version %s in %s, digest %s, verdict %s, ready after %.1f s",
        settings.model_name,
        candidate.version,
        predictor.precision,
        predictor.digest,
        predictor.verdict.id,
        time.perf_counter() - started,
    )
    return Served(predictor, settings.model_name, candidate.version)
