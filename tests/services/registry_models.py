"""A model in a real registry, and further releases of it, for the tests of what a service loads."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import REGISTRY

from benchmarks.signing import write_verdict
from buckler.release import tracking
from buckler.release.signing import signing
from buckler.serving.aliases import CHAMPION
from buckler.serving.registry import DIGEST_TAG, PROMOTION_TAG, VERDICT_TAG
from buckler.trust.public_keys import TrustedKeys
from buckler.trust.verdict import open_release
from services.classifier.releases.follower import Follower, follow
from services.classifier.releases.slot import ModelSlot
from services.classifier.settings import Settings
from tests.key_files import keys_in

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)  # of a verdict that is older than others


def value(name: str, **labels: str) -> float:
    """Return the value of a metric of this process."""
    return REGISTRY.get_sample_value(name, labels) or 0


def refused(reason: str) -> float:
    """Return how many releases were refused for ``reason``."""
    return value("buckler_model_refused_total", reason=reason)


def begin(settings: Settings) -> tuple[ModelSlot, Follower]:
    """Return the slot of a service that has just started, and its follower."""
    slot = ModelSlot(keep_previous_seconds=settings.previous_model_seconds)
    return slot, follow(settings, slot)


def change_the_weights(release: Path) -> None:
    """Flip a bit in the middle of a release's Keras file."""
    weights = release / "model/classifier.keras"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)


class RegistryModel:
    """A model in a real registry, with operations for a promoter and for someone with only write access."""

    def __init__(self, name: str, keys: Path) -> None:
        self.name = name
        self.keys = keys_in(keys)
        self._model = tracking.WritableRegistry(name, self.keys)

    @property
    def trusted(self) -> TrustedKeys:
        return self.keys.public()

    def register(self, release: Path, *, tags: bool = True) -> str:
        run = tracking.start_run("service", "test", {})
        uri = tracking.log_release(run, release, labels=["benign", "malignant"], shape=(32, 32, 3))
        tracking.finish_run(run)
        verdict = open_release(release, self.trusted.verdict) if tags else None
        known = {DIGEST_TAG: verdict.subject_digest, VERDICT_TAG: verdict.id} if verdict else {}
        return self._model.register(uri, tags=known, description="test")

    def point_to(self, version: str) -> None:
        """Move the alias by hand, which MLflow allows."""
        self._model.set_alias(CHAMPION, version)

    def promote(self, release: Path, version: str) -> None:
        """Move the alias as `buckler promote` and `buckler rollback` do."""
        with signing(self._model) as signer:
            signer.promote(self._model.version(version), open_release(release, self.trusted.verdict))

    def write_promotion(self, version: str, text: str) -> None:
        """Write a record of any origin to the version and the model, as whoever writes the registry can."""
        self._model.tag(version, PROMOTION_TAG, text)
        self._model.tag_model(PROMOTION_TAG, text)

    def publish(self, release: Path) -> str:
        version = self.register(release)
        self.promote(release, version)
        return version


class Maker:
    """Makes further releases of the same model, each with another verdict."""

    def __init__(self, release: Path, keys: Path, directory: Path, model_name: str) -> None:
        self.keys, self._release, self._directory, self._name = keys, release, directory, model_name

    def __call__(self, name: str, **changes: object) -> Path:
        other = Path(shutil.copytree(self._release, self._directory / name / "release"))
        write_verdict(other, self.keys, self._name, **changes)
        return other


def settings_in(directory: Path, name: str) -> Settings:
    """Return settings of a service that follows the model of the test ``name`` five times a second."""
    name = f"service-{abs(hash(name)):x}"
    return Settings(model_name=name, releases_dir=directory / "releases", follow_seconds=0.2, follow_jitter_seconds=0)
