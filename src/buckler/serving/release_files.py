"""Reads the files of a release: whether they are authentic, and whether this version of the product can load them."""

from collections.abc import Iterator
from pathlib import Path

from buckler.errors import ModelError, VerdictError
from buckler.serving.assessment import OpenedRelease, Reason, ReasonCode
from buckler.state.locations import Location
from buckler.trust import verdict
from buckler.trust.opened_files import OpenedFiles
from buckler.trust.public_keys import TrustedKeys
from buckler.trust.verdict import MODEL_DIR, Verdict

WHAT_TO_DO = "run `dvc repro` and `buckler promote`, or serve it with the version of the product that made it"


def read_release(path: Path, keys: TrustedKeys, *, model: str) -> OpenedRelease:
    """Return what the release in ``path`` says, and every reason for which it cannot be used.

    Args:
        path: Directory of the release.
        keys: Verify the verdict.
        model: Registered model that the verdict must be about.
    """
    files = OpenedFiles.none(path)
    try:
        files = OpenedFiles.of(path)
        proof = verdict.read_verdict(files, keys.verdict)
    except VerdictError as error:
        return OpenedRelease(path, files, None, (_unusable(error, path),))
    reasons = [_unusable(error, path) for error in _contradictions(proof, files, model)]
    if not reasons and (problem := unloadable(files / MODEL_DIR)):  # bytes that nobody signed are not parsed
        reasons.append(Reason(ReasonCode.UNLOADABLE, problem))
    return OpenedRelease(path, files, proof, tuple(reasons))


def _contradictions(proof: Verdict, files: OpenedFiles, model: str) -> Iterator[VerdictError]:
    try:
        verdict.check_name(proof, model)
    except VerdictError as error:
        yield error
    try:
        verdict.check_files(proof, files)
    except VerdictError as error:
        yield error


_ABOUT_FILES = {
    ReasonCode.MISSING: "publish the release again with `dvc repro`",
    ReasonCode.MALFORMED: "publish the release again with `dvc repro`",
    ReasonCode.SIGNATURE: "find who signed it, or publish it again with this project's key (`dvc repro`)",
    ReasonCode.DIGEST: "find who changed the files, and publish the release again with `dvc repro`",
    ReasonCode.OTHER_MODEL: "publish the release under its own name",
}


def _unusable(error: VerdictError, path: Path) -> Reason:
    code = ReasonCode(error.reason)
    sentence = str(error).replace(str(path), "the release")  # often a temporary directory
    return Reason(code, f"{sentence}; {_ABOUT_FILES[code]}")


def unloadable(model: Location) -> str | None:
    """Return why this version of the product cannot load the verified files in ``model``; None if it seems to.

    The network is not loaded: that takes seconds and may need TensorFlow.
    """
    from buckler.detection.screening import Screening
    from buckler.modality.picture.restoration import table as restoration
    from buckler.models import info, runtime
    from buckler.models.explanation import HeadWeights

    try:
        described = info.load_info(model)
        if runtime.is_exported(model) and described.heat_maps:
            HeadWeights.load(model)
        Screening.load(model)
        if described.restore in restoration.STEPS:
            restoration.find(described.restore)
    except ModelError as error:
        return (
            f"this version of the product cannot load the model: {str(error).replace(str(model), 'the release')};"
            f" {WHAT_TO_DO}"
        )
    return None
