"""Shows what an attacker with the model's weights can do: FGSM on the float32 reference of the model that answers.

The picture is resized to the model's input before the attack and sent as a PNG afterwards. The service therefore reads
exactly the attacked pixels: whole levels of 255, within the radius.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from buckler.client import Answer
from buckler.errors import BucklerError
from buckler.modality.picture import images, uploads
from buckler.serving import release_cache
from buckler.serving.registry import Registry
from buckler.serving.release_files import read_release
from buckler.trust import keys
from buckler.trust.verdict import MODEL_DIR
from services.console.service_client import ServiceClient, data_url
from services.console.settings import Settings

if TYPE_CHECKING:  # TensorFlow takes seconds to load, and most users never run an attack
    from buckler.models.classifier import Classifier
    from buckler.state.locations import Location

RADII = (0.5, 1.0, 2.0, 4.0, 8.0)  # in 1/255
AMPLIFICATION = 15  # the largest radius then spans nearly the whole range around grey

logger = logging.getLogger("buckler.console")


@dataclass(frozen=True, slots=True)
class Reference:
    """The float32 network of the released model with ``digest``."""

    digest: str
    image_size: int
    classifier: "Classifier"


@dataclass(frozen=True, slots=True)
class AttackResult:
    """A picture and its answer before and after an attack; pictures are ``data:`` URLs.

    Attributes:
        epsilon_255: Radius: the largest change of a pixel that is allowed, in levels of 255.
        largest: Largest change that was made, in whole levels; 0 if the radius is below one level.
        clean, attacked: The picture at the model's size.
        perturbation: Their difference, amplified ``AMPLIFICATION`` times around grey.
        before, after: The service's answers to both.
    """

    epsilon_255: float
    largest: int
    clean: str
    attacked: str
    perturbation: str
    before: Answer
    after: Answer

    @property
    def changed(self) -> bool:
        """Whether the attack changed the label."""
        return self.before.label != self.after.label


class AttackPreview:
    """Attacks pictures; keeps the reference of the live model and loads it again when the live model changes."""

    def __init__(self, settings: Settings, service: ServiceClient) -> None:
        self._settings, self._service = settings, service
        self._lock = threading.Lock()
        self._reference: Reference | None = None

    def prepare(self) -> None:
        """Start to load the reference in the background, so that the first attack waits less."""
        threading.Thread(target=self._prepare, daemon=True, name="attack").start()

    def _prepare(self) -> None:
        try:
            self._current()
        except BucklerError as error:  # the attack raises it again and shows it
            logger.info("the attack is not ready: %s", error)

    def attack(self, picture: bytes, epsilon_255: float) -> AttackResult:
        """Attack a picture within a radius and query the service before and after.

        Raises:
            BucklerError: The service does not answer, or the model's release is not available or not valid.
        """
        reference = self._current()
        clean = uploads.load_pixels(picture, size=reference.image_size)
        attacked = _craft(reference.classifier, clean, epsilon_255)
        with self._service.client() as client:
            before, after = (client.predict(images.to_png(pixels)) for pixels in (clean, attacked))
        levels = np.rint((attacked - clean) * 255)
        return AttackResult(
            epsilon_255=epsilon_255,
            largest=int(np.abs(levels).max()),
            clean=data_url(images.to_png(clean)),
            attacked=data_url(images.to_png(attacked)),
            perturbation=data_url(images.to_png(0.5 + AMPLIFICATION * levels / 255)),
            before=before,
            after=after,
        )

    def _current(self) -> Reference:
        """Return the reference of the live model."""
        with self._service.client() as client:
            card = client.model_card()
        with self._lock:
            if self._reference is None or self._reference.digest != card["model"]["digest"]:
                self._reference = None  # frees one network before another is loaded
                self._reference = self._load(card)
            return self._reference

    def _load(self, card: Mapping[str, Any]) -> Reference:
        model = card["model"]
        if self._settings.release:
            release = read_release(self._settings.release, keys.load_trusted_keys(), model=model["name"])
            digest = release.require().subject_digest
            if digest != model["digest"]:
                raise BucklerError(
                    f"the service answers with model {model['digest']}, {self._settings.release} contains {digest};"
                    " BUCKLER_RELEASE must name the release that the service serves"
                )
            return _reference(release.files / MODEL_DIR, model["digest"])
        with release_cache.reported(card, Registry(model["name"])) as cached:
            return _reference(cached.files / MODEL_DIR, model["digest"])


def _reference(model: "Location", digest: str) -> Reference:
    try:
        from buckler.models import checkpoint
        from buckler.models.classifier import Classifier
    except ModuleNotFoundError as error:
        raise BucklerError(
            f"an attack needs gradients, and {error.name} is not installed; install the extra `cpu`"
        ) from error
    info = checkpoint.load_info(model)
    return Reference(digest, info.image_size, Classifier(checkpoint.load_network(model), batch_size=1))


def _craft(classifier: "Classifier", pixels: Any, epsilon_255: float) -> Any:
    from buckler.attacks.ball import as_8_bit
    from buckler.attacks.base import Batch
    from buckler.attacks.gradient import FGSM
    from buckler.modality.base import Radius

    images, radius = pixels[None], Radius(epsilon_255 / 255)
    # The true label is not known: move away from the present answer.
    label = classifier.logits(images).argmax(axis=1)
    return as_8_bit(FGSM()(classifier, Batch(images, label), radius), images, radius)[0]
