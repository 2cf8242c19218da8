"""Verifies, loads, warms up and self-tests a release before it serves."""

import gc
import logging
import os
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buckler.trust.standing import Standing
from buckler.trust.verdict import MODEL_DIR, open_release
from services.classifier.served import Candidate, Served
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
        settings: Settings with the name of the model that its verdict must be about.
        key: Public key that must have signed its verdict.
        may_answer: Whether clients get its answers; if so, its verdict must have passed and not have expired.
        standing: Latest signed statement about it since its verdict.

    Raises:
        VerdictError: The verdict is missing, not valid, or about another model.
        ModelError: The verified files cannot be loaded.
        SelfTestError: Its answers to the reference pictures differ from those at the gate.
    """
    from buckler.serving import selftest  # loads an engine, which the workers' supervisor does not need
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
