"""A released model and its detector, loaded after verification: one forward pass per answer."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buckler.detection.reasons import Reason
from buckler.detection.screening import Screening
from buckler.detection.sketch import Sketch
from buckler.errors import ModelError
from buckler.modality.base import Images
from buckler.models import runtime
from buckler.models.explanation import Explainer, HeadWeights, Relevance
from buckler.models.forward import Forward, probabilities
from buckler.models.info import ModelInfo, load_info
from buckler.trust.verdict import MODEL_DIR, Verdict, verify_release


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one picture.

    Attributes:
        label: The most probable class.
        probabilities: By label; they sum to one.
        decision: ``review`` if there is a reason, else ``accept``.
        reasons: In the order of ``Reason``.
        score: Detector score; higher is more suspicious.
        verdict: ``adversarial`` if ``score > threshold``, else ``clean``.
        sketch: Compressed features, for drift detection; not part of the answer.
    """

    label: str
    probabilities: dict[str, float]
    decision: Literal["accept", "review"]
    reasons: tuple[Reason, ...]
    score: float
    threshold: float
    verdict: Literal["clean", "adversarial"]
    sketch: tuple[float, ...] = field(default=(), repr=False, compare=False)

    def for_review(self, reason: Reason) -> "Prediction":
        """Return this prediction with the decision ``review`` and ``reason`` among its reasons."""
        return replace(self, decision="review", reasons=_in_order({reason, *self.reasons}))


class ServedNetwork(Protocol):
    """A network that can serve: an exported one, or the reference in Keras."""

    precision: str

    def forward(self, images: Images) -> Forward:
        """Return logits and features of ``images`` (batch, size, size, 3) in 0..1."""
        ...


class Predictor:
    """A verified release: pictures of ``image_size`` in, ``Prediction`` out.

    Attributes:
        labels: Class names.
        image_size: Side length of its input in pixels.
        shape: Shape of one input.
        info: The model's metadata in the release.
        digest: Digest of the model directory, as in the verdict.
        verdict: The signed verdict under which it serves.
        precision: Number format of its computation.
    """

    def __init__(
        self,
        network: ServedNetwork,
        screening: Screening,
        info: ModelInfo,
        verdict: Verdict,
        explainer: Explainer,
    ) -> None:
        self.labels, self.image_size, self.shape = info.labels, info.image_size, info.shape
        self.info = info
        self.verdict, self.digest = verdict, verdict.subject_digest
        self.precision = network.precision
        self._network, self._screening, self._explainer = network, screening, explainer
        self._sketch = Sketch.of(screening.detector)

    @classmethod
    def load(
        cls,
        release: Path,
        public_key: Ed25519PublicKey,
        *,
        name: str | None = None,
        threads: int | None = None,
    ) -> "Predictor":
        """Return the model of ``release`` after verifying its verdict and every file that it covers.

        Args:
            release: Directory with ``model/``, ``evidence/`` and ``verdict.json``.
            public_key: Key that must have signed the verdict.
            name: Registered model that the verdict must be about; default: any.
            threads: Number of threads; default: one for each processor.

        Raises:
            VerdictError: The verdict is missing, not valid, or about other files.
            ModelError: The verified files cannot be loaded.
        """
        verdict = verify_release(release, public_key, name=name)
        return cls.of(release / MODEL_DIR, verdict, threads=threads)

    @classmethod
    def of(
        cls,
        model: Path,
        verdict: Verdict,
        *,
        threads: int | None = None,
        precision: runtime.ServingPrecision | None = None,
    ) -> "Predictor":
        """Return the model in the directory ``model``, whose files the caller has verified or created.

        Args:
            model: The directory.
            verdict: The verdict under which it serves.
            threads: As ``load``.
            precision: Precision of an exported network; default: the first that this processor supports natively.

        Raises:
            ModelError: The files cannot be loaded.
        """
        network, explainer = _engine(model, threads, precision)
        return cls(network, Screening.load(model), load_info(model), verdict, explainer)

    def __call__(self, pixels: Images, *, review_from: datetime | None = None) -> Prediction:
        """Return the answer to one picture.

        Args:
            pixels: ``(image_size, image_size, 3)`` float32 in 0..1.
            review_from: Aware time from which every answer needs review; default: the expiry of the verdict.
        """
        forward = self._network.forward(pixels[None])
        shares = probabilities(forward.logits)[0]
        scores, flags = self._screening.flags(pixels[None], forward)
        found = {reason for reason, held in flags.items() if held[0]}
        if datetime.now(UTC) >= (review_from or self.verdict.expires_at):
            found.add(Reason.MODEL_DEGRADED)
        reasons = _in_order(found)
        return Prediction(
            label=self.labels[int(shares.argmax())],
            probabilities={label: float(share) for label, share in zip(self.labels, shares, strict=True)},
            decision="review" if reasons else "accept",
            reasons=reasons,
            score=float(scores[0]),
            threshold=self._screening.threshold,
            verdict="adversarial" if flags[Reason.ADVERSARIAL][0] else "clean",
            sketch=tuple(self._sketch(forward.features)[0].tolist()),
        )

    def explain(self, pixels: Images, label: str) -> Relevance:
        """Return the relevance of each place of a picture for ``label``: ``(h, w)``, 0..1; input as in ``__call__``."""
        return self._explainer(pixels, self.labels.index(label))

    def warm_up(self) -> None:
        """Answer one grey picture, so that the first real one does not wait for compilation."""
        self(np.full(self.shape, 0.5, np.float32))


def _in_order(reasons: Collection[Reason]) -> tuple[Reason, ...]:
    return tuple(reason for reason in Reason if reason in reasons)


def _engine(
    model: Path, threads: int | None, precision: runtime.ServingPrecision | None
) -> tuple[ServedNetwork, Explainer]:
    """Return the exported network if there is one, else the reference, which needs TensorFlow."""
    if runtime.is_exported(model):
        exported = runtime.Runtime.load(model, precision=precision, threads=threads)
        return exported, Explainer(exported.maps, HeadWeights.load(model))
    try:
        from buckler.models.checkpoint import load_network
        from buckler.models.classifier import Classifier
        from buckler.models.features import head_of, maps_of
    except ModuleNotFoundError as error:
        raise ModelError(
            "this release has no exported network (it is randomised, or older than the stage `export`) and its "
            f"reference needs {error.name}, which is not installed: install the extra `cpu`, or build the release again"
        ) from error
    network = load_network(model)
    return Classifier(network, batch_size=1), Explainer(maps_of(network), head_of(network))
