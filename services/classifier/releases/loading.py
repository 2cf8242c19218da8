"""From a candidate to a model that may serve: verified, loaded, warm, and answering here as it did when judged."""

import gc
import logging
import os
import time
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buckler.trust.standing import Standing
from buckler.trust.verdict import MODEL_DIR, open_release
from services.classifier.served import Candidate, Served
from services.classifier.settings import Settings

if TYPE_CHECKING:
    pass

logger = logging.getLogger("buckler.service")


def keep_from_the_collector() -> None:
    """Leave what has been loaded out of garbage collection, once what nobody needs any more is gone.

    To look through all of it takes a request some 80 ms.
    """
    gc.unfreeze()  # a model that has been let go may refer to itself, and would stay for ever
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


def load(
    candidate: Candidate,
    settings: Settings,
    key: Ed25519PublicKey,
    *,
    may_answer: bool = True,
    standing: Standing | None = None,
) -> Served:
    """Return the model of ``candidate``, ready to answer.

    Args:
        candidate: A release on disk.
        settings: Name the model that its verdict must be about.
        key: Of whom its verdict must be signed.
        may_answer: Whether clients will see its answers: then its verdict must have passed and not be expired.
        standing: What was signed about it since its verdict.

    Raises:
        VerdictError: The verdict is missing, does not hold, or is about something else.
        ModelError: The verified files cannot be loaded.
        SelfTestError: It does not answer as it did when it was judged.
    """
    from buckler.serving import selftest  # loads an engine: in the workers, not in their supervisor
    from buckler.serving.predictor import Predictor

    started = time.perf_counter()
    model, threads = candidate.path / MODEL_DIR, threads_each(settings.workers)
    if may_answer:
        valid_until = standing.expires_at if standing else None
        predictor = Predictor.load(
            candidate.path, key, name=settings.model_name, threads=threads, valid_until=valid_until
        )
    else:
        verdict = open_release(candidate.path, key, name=settings.model_name)
        predictor = Predictor.of(model, verdict, threads=threads)
    predictor.warm_up()
    selftest.check(predictor, model)
    logger.info(
        "%s version %s in %s, digest %s, verdict %s, is ready after %.1f s",
        settings.model_name,
        candidate.version,
        predictor.precision,
        predictor.digest,
        predictor.verdict.id,
        time.perf_counter() - started,
    )
    return Served(predictor, settings.model_name, candidate.version).with_standing(standing)
