"""A champion in a real registry, for tests of signed documents about it."""

import shutil
import tempfile
from datetime import datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path

from benchmarks.signing import write_verdict
from buckler.release import tracking
from buckler.release.restate import restate
from buckler.release.signing import signing
from buckler.serving import registry
from buckler.trust.standing import Claim
from buckler.trust.verdict import open_release
from tests.key_files import keys_in


class Champion:
    """A champion in a real registry, with the keys."""

    def __init__(self, name: str, release: Path, keys: Path, directory: Path, **verdict: object) -> None:
        self.name, self.version = name, ""
        self.keys = keys_in(keys)
        self.key, self.trusted = self.keys.private(), self.keys.public()
        self.registry = tracking.WritableRegistry(name, self.keys)
        self._release, self._keys, self._directory = release, keys, directory
        self.publish(**verdict)

    def publish(self, **verdict: object) -> str:
        """Register and promote the same model with another verdict."""
        with tempfile.TemporaryDirectory(dir=self._directory) as scratch:
            place = Path(shutil.copytree(self._release, Path(scratch) / "release"))
            write_verdict(place, self._keys, self.name, **verdict)
            found = open_release(place, self.trusted.verdict)
            run = tracking.start_run("service", "test", {})
            uri = tracking.log_release(run, place, labels=["benign", "malignant"], shape=(32, 32, 3))
            tracking.finish_run(run)
        tags = {registry.DIGEST_TAG: found.subject_digest, registry.VERDICT_TAG: found.id}
        self.version = self.registry.register(uri, tags=tags, description="test")
        self.verdict = found
        self.promote()
        return self.version

    def promote(self, approvals: str = "") -> None:
        """Sign the promotion of the last published version, as whoever has the key of promotions can."""
        with signing(self.registry) as signer:
            signer.promote(self.registry.version(self.version), self.verdict, approvals=approvals)

    def state(self, claim: Claim | None, job: str = "reevaluate", **renewal: datetime) -> str:
        """Sign a claim of ``job``, or its withdrawal; return the standing in the registry."""
        restate(self.registry, self.version, job, claim, **renewal)
        return self.text()

    def text(self) -> str:
        return self.registry.version(self.version).standing

    def put_back(self, text: str) -> None:
        """Write an earlier standing, as an attacker with write access to the registry can."""
        self.registry.tag(self.version, registry.STANDING_TAG, text)


def forget(model_name: str) -> None:
    """Remove the releases of a model's versions from the registry."""
    for version in registry.Registry(model_name).versions():
        uri = MlflowClient().get_model_version_download_uri(model_name, version.version)
        if uri.startswith("file:"):
            shutil.rmtree(local_file_uri_to_path(uri), ignore_errors=True)  # versions may share it
