"""Loads a verified release as the service does, so that a command can say beforehand what a service would refuse."""

from buckler.errors import BucklerError, ModelError, SelfTestError
from buckler.serving.assessment import OpenedRelease, Reason, ReasonCode
from buckler.serving.predictor import Predictor
from buckler.serving.release_files import WHAT_TO_DO
from buckler.serving.selftest import check
from buckler.trust.verdict import MODEL_DIR


def loaded(release: OpenedRelease, *, threads: int | None = None) -> Predictor:
    """Return the model of an authentic release, warmed up and self-tested.

    Args:
        release: Only its opened files are read, which are those that were verified.
        threads: Number of threads; default: one for each processor.

    Raises:
        ModelError: This version of the product cannot load the verified files.
        SelfTestError: Its answers to the reference pictures differ from those at the gate.
        RefusedError: The release is not authentic.
    """
    model = release.files / MODEL_DIR
    verdict = release.require()
    try:
        predictor = Predictor.of(model, verdict, threads=threads)
        predictor.warm_up()
        check(predictor, model)
    except (BucklerError, OSError):
        raise
    except Exception as error:  # what another version wrote fails in as many ways as there are libraries that read it
        raise ModelError(f"the model of the release cannot be loaded: {error!r}") from error
    return predictor


def reason_of(error: ModelError | SelfTestError, release: OpenedRelease) -> Reason:
    """Return the reason against ``release``, which could not be loaded."""
    text = str(error).replace(str(release.path), "the release")  # often a temporary directory
    if isinstance(error, SelfTestError):
        return Reason(ReasonCode.SELF_TEST, f"{text}; {WHAT_TO_DO}")
    return Reason(ReasonCode.UNLOADABLE, f"this version of the product cannot load the model: {text}; {WHAT_TO_DO}")


def flaws(release: OpenedRelease) -> tuple[Reason, ...]:
    """Return why a service of this version would not load ``release``; empty if it would.

    A release that is not authentic, or has another flaw already, is not loaded.
    """
    if release.reasons:
        return ()
    try:
        loaded(release)
    except (ModelError, SelfTestError) as error:
        return (reason_of(error, release),)
    return ()
