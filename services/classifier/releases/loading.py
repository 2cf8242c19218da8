"""Loads, warms up and self-tests a verified release before it serves."""

import gc
import logging
import os
import time

from buckler.serving.assessment import Assessment, OpenedRelease
from services.classifier.served import Served
from services.classifier.settings import Settings

logger = logging.getLogger("buckler.service")


def freeze_loaded_objects() -> None:
    """Free unused objects, then exclude the remaining ones from garbage collection.

    Scanning a loaded model would delay a request by about 80 ms.
    """
    gc.unfreeze()  # or an old model in a reference cycle would never be freed
    gc.collect()
    gc.freeze()


def threads_each(workers: int) -> int:
    """Return a worker's share of the processors, at least one."""
    return max(1, len(os.sched_getaffinity(0)) // workers)


def bound_threads(workers: int) -> None:
    """Divide the processors among the workers' TensorFlow threads; variables that the operator set are kept."""
    threads = str(threads_each(workers))
    for variable in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, threads)
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def load(release: OpenedRelease, assessment: Assessment, settings: Settings) -> Served:
    """Return the model of an authentic release, ready to answer.

    Args:
        release: The release; only its opened files are read, which are those that were verified.
        assessment: Of its version.
        settings: Settings with the number of workers.

    Raises:
        ModelError: The verified files cannot be loaded.
        SelfTestError: Its answers to the reference pictures differ from those at the gate.
    """
    from buckler.serving.loadable import loaded  # loads an engine, which the workers' supervisor does not need

    started, version = time.perf_counter(), assessment.version
    predictor = loaded(release, threads=threads_each(settings.workers))
    logger.info(
        "%s in %s, digest %s, verdict %s, is ready after %.1f s",
        version,
        predictor.precision,
        predictor.digest,
        predictor.verdict.id,
        time.perf_counter() - started,
    )
    return Served(
        predictor,
        version.model,
        version.version,
        standing=assessment.standing,
        approved_by=assessment.approved_by,
    )
