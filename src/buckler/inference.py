"""A released model and its detector, verified, then asked: one pass, one answer."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buckler import signing
from buckler.detection.detector import Calibrated
from buckler.models import checkpoint
from buckler.models.classifier import Classifier
from buckler.models.forward import Images, probabilities

REASONS = ("adversarial", "out_of_distribution", "low_confidence", "image_quality", "model_degraded")


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one picture.

    Attributes:
        label: The most probable class.
        probabilities: One a label, summing to one.
        decision: ``accept``, or ``review`` where ``reasons`` names at least one of ``REASONS``.
        score: The detector's; higher is more suspicious.
        verdict: ``adversarial`` if ``score > threshold``, else ``clean``.
    """

    label: str
    probabilities: dict[str, float]
    decision: Literal["accept", "review"]
    reasons: tuple[str, ...]
    score: float
    threshold: float
    verdict: Literal["clean", "adversarial"]


class Predictor:
    """A verified release: pictures of ``image_size`` in, ``Prediction`` out.

    Attributes:
        labels: Class names.
        image_size: Pixels a side that it takes.
        digest: Of the model directory, as the verdict names it.
        verdict: The signed verdict it serves under.
    """

    def __init__(
        self,
        classifier: Classifier,
        detector: Calibrated,
        info: checkpoint.ModelInfo,
        verdict: signing.Verdict,
    ) -> None:
        self.labels, self.image_size = info.labels, info.image_size
        self.verdict, self.digest = verdict, verdict.subject_digest
        self._classifier, self._detector = classifier, detector

    @classmethod
    def load(cls, release: Path, public_key: Ed25519PublicKey) -> "Predictor":
        """Return the model of ``release``, after its verdict and every byte it speaks for were verified.

        Raises:
            VerdictError: The verdict is missing, does not hold, or is about other bytes.
            ModelError: The verified files cannot be loaded.
        """
        verdict = signing.verify_release(release, public_key)
        model = release / "model"
        classifier = Classifier(checkpoint.load_network(model), batch_size=1)
        return cls(classifier, Calibrated.load(model), checkpoint.load_info(model), verdict)

    def __call__(self, pixels: Images) -> Prediction:
        """Return the answer to one picture, ``(image_size, image_size, 3)`` float32 in 0..1."""
        forward = self._classifier.forward(pixels[None])
        shares = probabilities(forward.logits)[0]
        score, threshold = float(self._detector.detector.score(forward.features)[0]), self._detector.threshold
        reasons = self._reasons(score > threshold, float(shares.max()))
        return Prediction(
            label=self.labels[int(shares.argmax())],
            probabilities={label: float(share) for label, share in zip(self.labels, shares, strict=True)},
            decision="review" if reasons else "accept",
            reasons=reasons,
            score=score,
            threshold=threshold,
            verdict="adversarial" if score > threshold else "clean",
        )

    def warm_up(self) -> None:
        """Answer one grey picture, so that the first real one does not wait for compilation."""
        self(np.full((self.image_size, self.image_size, 3), 0.5, np.float32))

    def _reasons(self, flagged: bool, confidence: float) -> tuple[str, ...]:
        holds = {
            "adversarial": flagged,
            "low_confidence": confidence < self._detector.min_confidence,
            "model_degraded": datetime.now(UTC) >= self.verdict.expires_at,
        }
        return tuple(reason for reason in REASONS if holds.get(reason))
