"""Shows what an attacker can do to a picture: computed on the float32 reference of the model that answers.

The picture is resized to the model's input before the attack and sent as a PNG afterwards. The service therefore reads
exactly the attacked pixels: whole levels of 255, within the radius.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from buckler.client import Answer
from buckler.detection.reasons import Reason
from buckler.errors import BucklerError
from buckler.modality.picture import images, uploads
from buckler.serving import release_cache
from buckler.serving.registry import Registry
from buckler.serving.release_files import read_release
from buckler.trust import keys
from buckler.trust.verdict import MODEL_DIR
from services.console import attackers
from services.console.attackers import Attacker, Progress, Reference
from services.console.service_client import ServiceClient, data_url
from services.console.settings import Settings

AMPLIFICATION = 10  # at every radius, so that perturbations compare; at the largest one no pixel is cut off

logger = logging.getLogger("buckler.console")


@dataclass(frozen=True, slots=True)
class AttackResult:
    """A picture and its answer before and after an attack; pictures are ``data:`` URLs.

    Attributes:
        attacker: Who attacked.
        radius: The largest change of a colour value that is allowed.
        largest: Largest change that was made, in levels.
        clean, attacked: The picture at the model's size.
        perturbation: Their difference, amplified ``AMPLIFICATION`` times around grey.
        before, after: The service's answers to both.
    """

    attacker: Attacker
    radius: str
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

    @property
    def flagged(self) -> bool:
        """Whether the detector flagged the picture after the attack."""
        return self.after.detector.verdict == "adversarial"

    @property
    def slipped_through(self) -> bool:
        """Whether the attack changed the label and nothing in the attacked picture or its answer asks for review.

        ``query_attack`` does not count: it comes from the many similar pictures that this page sends, and an attacker
        who computes elsewhere sends only one.
        """
        return self.changed and not set(self.after.reasons) - {Reason.QUERY_ATTACK}


class AttackPreview:
    """Attacks pictures; keeps the reference of the live model and loads it again when the live model changes."""

    def __init__(self, settings: Settings, service: ServiceClient) -> None:
        self._settings, self._service = settings, service
        self._lock = threading.Lock()
        self._computing = threading.Lock()  # attacks compute one after the other: each uses all processors
        self._reference: Reference | None = None
        self._running: dict[str, Progress] = {}  # by session

    def prepare(self) -> None:
        """Start to load the reference in the background, so that the first attack waits less."""
        threading.Thread(target=self._prepare, daemon=True, name="attack").start()

    def _prepare(self) -> None:
        try:
            self._current()
        except BucklerError as error:  # the attack raises it again and shows it
            logger.info("the attack is not ready: %s", error)

    def attack(self, picture: bytes, attacker: Attacker, radius: str, *, session: str) -> AttackResult:
        """Attack a picture within a radius and query the service before and after.

        Args:
            picture: The file.
            attacker: One of `attackers.ATTACKERS`.
            radius: One of `attackers.RADII`.
            session: Id of the session; its earlier attack, if one still runs, is stopped.

        Raises:
            BucklerError: The service does not answer, the model's release is not available or not valid, or the attack
                was stopped or took too long.
        """
        progress = Progress(attacker.passes)
        if earlier := self._running.get(session):
            earlier.stop()
        self._running[session] = progress
        try:
            return self._attack(picture, attacker, radius, progress)
        finally:
            if self._running.get(session) is progress:
                del self._running[session]

    def progress(self, session: str) -> Progress | None:
        """Return how far the attack of a session is; None if none runs."""
        return self._running.get(session)

    def _attack(self, picture: bytes, attacker: Attacker, radius: str, progress: Progress) -> AttackResult:
        reference = self._current()
        progress.loading = False
        clean = uploads.load_pixels(picture, size=reference.image_size)
        with self._computing:
            progress.start()
            attacked = attackers.craft(reference, attacker, clean, radius, progress)
        with self._service.client() as client:
            before, after = (client.predict(images.to_png(pixels)) for pixels in (clean, attacked))
        levels = np.rint((attacked - clean) * 255)
        return AttackResult(
            attacker=attacker,
            radius=radius,
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
            return attackers.load(release.files / MODEL_DIR, model["digest"])
        with release_cache.reported(card, Registry(model["name"])) as cached:
            return attackers.load(cached.files / MODEL_DIR, model["digest"])
