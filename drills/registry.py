"""A registry of its own for a drill: a scratch MLflow store, a key made for it, and releases of the project's model."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler import params
from buckler.errors import BucklerError
from buckler.release import bundle, tracking
from buckler.release.policy import Policy
from buckler.release.promote import promote as promote_release
from buckler.release.promote import rollback as rollback_release
from buckler.serving import registry, selftest
from buckler.serving.aliases import CHAMPION
from buckler.trust import keys
from buckler.trust.promotion import issue
from buckler.trust.verdict import Verdict, open_release

NAME = "drill"


class DrillError(BucklerError):
    """A drill cannot run; the message names what is missing."""


class Builder:
    """Makes signed releases of a project's model: the same bytes, each with a verdict of its own.

    Args:
        project: Directory with models/, reports/ and params.yaml, as `dvc repro` leaves it.
        scratch: Empty directory.
    """

    def __init__(self, project: Path, scratch: Path) -> None:
        for needed in ("models/classifier", "models/detector", "reports", "params.yaml"):
            if not (project / needed).exists():
                raise DrillError(f"expected {needed} in {project.resolve()}; `make demo` makes it")
        self.key = Ed25519PrivateKey.generate()
        self.project, self._scratch = project, scratch
        self._count = 0
        self._self_test: Path | None = None

    def build(self, *, failing: bool = False, expires: datetime | None = None) -> Path:
        """Return a new release, issued later than the one before.

        Args:
            failing: Hold it to what no model reaches: its verdict says that it did not pass.
            expires: Until when its verdict holds; default: as long as the project's policy says.

        Raises:
            DrillError: The project's model does not pass its gate.
        """
        self._count += 1
        policy = params.load("gate", Policy, self.project / "params.yaml")
        now = datetime.now(UTC) + timedelta(seconds=self._count)
        if failing:
            policy = replace(policy, min_clean_accuracy=1.0)
        path = self._scratch / str(self._count) / registry.RELEASE_DIR
        verdict = bundle.build(
            path,
            **self._parts(),
            reports=self.project / "reports",
            policy=policy,
            name=NAME,
            source=bundle.CodeVersion(None, False),
            key=self.key,
            write_self_test=self._write_self_test,
            now=expires - timedelta(days=policy.valid_days) if expires else now,
        )
        if not verdict.passed and not failing:
            raise DrillError(f"the project's model does not pass its gate: {'; '.join(verdict.statement['reasons'])}")
        return path

    def _parts(self) -> dict[str, Path]:
        """Return what the pipeline made of a model; a network that was not exported has no runtime."""
        parts = {name: self.project / "models" / name for name in ("classifier", "runtime", "detector")}
        return {name: place for name, place in parts.items() if place.exists()}

    def _write_self_test(self, model: Path) -> None:
        if self._self_test:  # loading the network again for each release would take longer than the drill
            shutil.copyfile(self._self_test, model / selftest.FILE)
            return
        selftest.write(model)
        self._self_test = self._scratch / selftest.FILE
        shutil.copyfile(model / selftest.FILE, self._self_test)


class Registry:
    """A scratch registry in ``root``; the process that drills and those it starts use it through ``env``."""

    def __init__(self, root: Path, key: Ed25519PrivateKey) -> None:
        self.root, self._key = root, key
        self.public_key = key.public_key()
        root.mkdir(parents=True)
        (root / "params.yaml").write_text(f"publish: {{experiment: {NAME}, model_name: {NAME}}}\n", encoding="utf-8")
        private, public = root / keys.PRIVATE_KEY_FILE, root / keys.PUBLIC_KEY_FILE
        private.write_bytes(_private_pem(key))
        public.write_bytes(keys.public_pem(self.public_key))
        self.env = {
            "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db",
            keys.SIGNING_KEY_ENV: str(private),
            keys.VERDICT_KEY_ENV: str(public),
            "BUCKLER_MODEL_NAME": NAME,
        }

    def register(self, path: Path) -> str:
        """Return the number of the new version that holds the release in ``path``."""
        verdict = open_release(path, self.public_key)
        run = tracking.start_run(NAME, "drill", {})
        uri = tracking.log_release(run, path, labels=verdict.statement["labels"], shape=(1, 1, 3))
        tracking.finish_run(run)
        tags = {registry.DIGEST_TAG: verdict.subject_digest, registry.VERDICT_TAG: verdict.id}
        return tracking.register(NAME, uri, tags=tags, description="drill")

    def promote(self, number: str) -> None:
        """Promote as `buckler promote` does."""
        promote_release(NAME, self._key, number=number)

    def rollback(self) -> None:
        """Go back as `buckler rollback` does."""
        rollback_release(NAME, self._key)

    def harm(self, number: str, harm: Callable[[Path], None]) -> None:
        """Do ``harm`` to the stored release of a version, as an attacker with access to the registry's disk could."""
        uri = registry.connect().get_model_version_download_uri(NAME, number)
        harm(Path(uri.removeprefix("file://")) / "data" / registry.RELEASE_DIR)

    def sign_promotion(self, number: str, verdict: Verdict) -> None:
        """Record a promotion without its checks, as if the tampering happened after them."""
        record = issue(self._key, model_name=NAME, version=number, verdict=verdict, moment=datetime.now(UTC))
        tracking.tag_version(NAME, number, registry.PROMOTION_TAG, record)

    def point_to(self, number: str) -> None:
        """Move the alias by hand."""
        tracking.set_alias(NAME, CHAMPION, number)

    def champion(self) -> str | None:
        """Return the champion's number."""
        found = registry.by_alias(NAME, CHAMPION)
        return found.version if found else None


def _private_pem(key: Ed25519PrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
