"""A released model and its detector, loaded after verification: one forward pass per answer."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from buckler import findings
from buckler.detection.reasons import Reason
from buckler.detection.screening import Screening
from buckler.detection.sketch import Sketch
from buckler.errors import ModelError
from buckler.measurements.stated import Measured
from buckler.modality.base import Images
from buckler.models import restored, runtime
from buckler.models.explanation import HeadWeights, Relevance, relevance_of
from buckler.models.forward import Forward
from buckler.models.info import ModelInfo, load_info
from buckler.state.locations import Location
from buckler.trust.opened_files import opened
from buckler.trust.public_keys import PublicKeys
from buckler.trust.verdict import MODEL_DIR, Verdict, verify_release


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one picture.

    Attributes:
        label: The most probable class.
        probabilities: By label, calibrated; they sum to one.
        findings: Probability of each finding, if a record may have several labels at once.
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
    findings: dict[str, float] | None = None
    sketch: tuple[float, ...] = field(default=(), repr=False, compare=False)

    def for_review(self, reason: Reason) -> "Prediction":
        """Return this prediction with the decision ``review`` and ``reason`` among its reasons."""
        return replace(self, decision="review", reasons=_in_order({reason, *self.reasons}))


class ServedNetwork(Protocol):
    """A network that can serve: an exported one, or the reference in Keras."""

    precision: str

    def forward(self, images: Images, *, maps: bool = False) -> Forward:
        """Return logits, features and, if asked for, maps of ``images`` (batch, ...) in 0..1."""
        ...


class Predictor:
    """A verified release: inputs in, ``Prediction`` out.

    Attributes:
        labels: Class names.
        form: What it reads.
        shape: Shape of one input.
        info: The model's metadata in the release.
        digest: Digest of the model directory, as in the verdict.
        verdict: The signed verdict under which it serves.
        precision: Number format of its computation.
        heat_maps_reliable: Whether its heat maps may be shown: it has some, and they passed their check or had none.
    """

    def __init__(
        self,
        network: ServedNetwork,
        screening: Screening,
        info: ModelInfo,
        verdict: Verdict,
        head: HeadWeights | None,
    ) -> None:
        self.labels, self.form = info.labels, info.form
        self.info = info
        self.verdict, self.digest = verdict, verdict.subject_digest
        self.precision = network.precision
        check = Measured.read(verdict.measured).heat_map
        self.heat_maps_reliable = head is not None and (check is None or check.reliable)
        self._network, self._screening, self._head = network, screening, head
        self._sketch = Sketch.of(screening.detector)

    @classmethod
    def load(
        cls,
        release: Path,
        public_keys: PublicKeys,
        *,
        name: str | None = None,
        threads: int | None = None,
    ) -> "Predictor":
        """Return the model of ``release`` after verifying its verdict and every file that it covers.

        Args:
            release: Directory with ``model/``, ``evidence/`` and ``verdict.json``.
            public_keys: Keys of verdicts, of which one must have signed it.
            name: Registered model that the verdict must be about; default: any.
            threads: Number of threads; default: one for each processor.

        Raises:
            VerdictError: The verdict is missing, not valid, or about other files.
            ModelError: The verified files cannot be loaded.
        """
        with opened(release) as files:
            verdict = verify_release(files, public_keys, name=name)
            return cls.of(files / MODEL_DIR, verdict, threads=threads)

    @classmethod
    def of(
        cls,
        model: Location,
        verdict: Verdict,
        *,
        threads: int | None = None,
        precision: runtime.ServingPrecision | None = None,
    ) -> "Predictor":
        """Return the model in the directory ``model``, whose files the caller has verified or created.

        Args:
            model: The directory; that of verified files is taken from `buckler.trust.opened_files`, not from a path.
            verdict: The verdict under which it serves.
            threads: As ``load``.
            precision: Precision of an exported network; default: the first that this processor supports natively.

        Raises:
            ModelError: The files cannot be loaded.
        """
        info = load_info(model)
        network, head = _engine(model, info, threads, precision)
        return cls(network, Screening.load(model), info, verdict, head)

    def __call__(self, pixels: Images, *, review_from: datetime | None = None) -> Prediction:
        """Return the answer to one picture.

        Args:
            pixels: The input, float32 in 0..1.
            review_from: Aware time from which every answer needs review; default: the expiry of the verdict.
        """
        return self._prediction(pixels, self._network.forward(pixels[None]), review_from)

    def predict_and_explain(
        self, pixels: Images, label: str | None = None, *, review_from: datetime | None = None
    ) -> tuple[Prediction, Relevance]:
        """Return the answer to one picture, and which places of it decide about a label, from one forward pass.

        Args:
            pixels: As ``__call__``.
            label: The label to explain; None explains the predicted label.
            review_from: As ``__call__``.

        Returns:
            The answer, which is that of ``__call__``, and the relevance of each place, ``(h, w)`` in 0..1; zero
            everywhere if the network has no heat maps.

        Raises:
            ValueError: The model has no such label.
            ModelError: The network has no maps.
        """
        if label is not None and label not in self.labels:
            raise ValueError(f"expected one of the labels {', '.join(self.labels)}, got {label}")
        forward = self._network.forward(pixels[None], maps=True)
        if forward.maps is None:
            raise ModelError("expected a network that returns its maps, got one without; export the model again")
        prediction = self._prediction(pixels, forward, review_from)
        if self._head is None:
            return prediction, np.zeros(forward.maps.shape[1:3], np.float32)
        explained = self.labels.index(prediction.label if label is None else label)
        return prediction, relevance_of(forward.maps[0], self._head, explained)

    def _prediction(self, pixels: Images, forward: Forward, review_from: datetime | None) -> Prediction:
        shares = self._screening.probabilities(forward.logits)[0]
        scores, flags = self._screening.flags(pixels[None], forward)
        found = {reason for reason, held in flags.items() if held[0]}
        if datetime.now(UTC) >= (review_from or self.verdict.expires_at):
            found.add(Reason.MODEL_DEGRADED)
        reasons = _in_order(found)
        probabilities = {label: float(share) for label, share in zip(self.labels, shares, strict=True)}
        return Prediction(
            label=self.labels[int(forward.logits[0].argmax())],
            probabilities=probabilities,
            findings=findings.shares(probabilities, self.info.findings) if self.info.findings else None,
            decision="review" if reasons else "accept",
            reasons=reasons,
            score=float(scores[0]),
            threshold=self._screening.threshold,
            verdict="adversarial" if flags[Reason.ADVERSARIAL][0] else "clean",
            sketch=tuple(self._sketch(forward.features)[0].tolist()),
        )

    def warm_up(self) -> None:
        """Answer and explain one grey picture, so that the first real one does not wait for compilation."""
        grey = np.full(self.form.shape, 0.5, np.float32)
        self(grey)
        self.predict_and_explain(grey)


def _in_order(reasons: Collection[Reason]) -> tuple[Reason, ...]:
    return tuple(reason for reason in Reason if reason in reasons)


def _engine(
    model: Location, info: ModelInfo, threads: int | None, precision: runtime.ServingPrecision | None
) -> tuple[ServedNetwork, HeadWeights | None]:
    """Return the exported network if there is one, else the reference, which needs TensorFlow; and its head, if any."""
    if runtime.is_exported(model):
        head = HeadWeights.load(model) if info.heat_maps else None
        exported = runtime.Runtime.load(model, precision=precision, threads=threads)
        return _restored(exported, info, model, threads), head
    try:
        from buckler.models.checkpoint import load_network
        from buckler.models.classifier import Classifier
        from buckler.models.features import head_of
    except ModuleNotFoundError as error:
        raise ModelError(
            "this release has no exported network (it is randomised, or older than the stage `export`) and its "
            f"reference needs {error.name}, which is not installed: install the extra `cpu`, or build the release again"
        ) from error
    network = load_network(model)
    return _restored(Classifier(network, batch_size=1), info, model, threads), head_of(network)


def _restored(network: ServedNetwork, info: ModelInfo, model: Location, threads: int | None) -> ServedNetwork:
    """Return ``network`` behind the restoration step of ``info``, if it has one."""
    step = restored.step_of(info, model, exported=runtime.is_exported(model), threads=threads)
    return network if step is None else restored.Restored(step, network)
