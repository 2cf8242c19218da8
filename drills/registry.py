"""The scratch registry of a drill: an MLflow store, new signing keys, and releases of the project's model."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler import params
from buckler.errors import BucklerError
from buckler.evaluation.reports import OUTCOMES_FILE
from buckler.release import bundle, tracking
from buckler.release.policy import Policy
from buckler.release.promote import promote as promote_release
from buckler.release.promote import rollback as rollback_release
from buckler.release.signing import signing
from buckler.serving import registry, selftest
from buckler.serving.aliases import CHAMPION
from buckler.trust import keys
from buckler.trust.journal import JOURNAL_ENV
from buckler.trust.public_keys import PublicKeys, TrustedKeys
from buckler.trust.verdict import Source, Verdict, open_release

NAME = "drill"


class DrillError(BucklerError):
    """A drill cannot run; the message names what is missing."""


class ReleaseBuilder:
    """Makes signed releases of a project's model: the same model each time, with a new verdict.

    Args:
        project: Directory with models/, reports/ and params.yaml, as `dvc repro` leaves it.
        scratch: Empty directory.
    """

    def __init__(self, project: Path, scratch: Path) -> None:
        for needed in ("models/classifier", "models/detector", "reports", "params.yaml"):
            if not (project / needed).exists():
                raise DrillError(f"expected {needed} in {project.resolve()}; run `make demo`")
        self.key, self.promotion_key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        self.project, self._scratch = project, scratch
        self._count = 0
        self._self_test: Path | None = None

    def build(
        self,
        *,
        failing: bool = False,
        worse: bool = False,
        expires: datetime | None = None,
        key: Ed25519PrivateKey | None = None,
    ) -> Path:
        """Return a new release, issued later than the one before.

        Args:
            failing: Require a clean accuracy of 100 %, so that the verdict says that the model did not pass.
            worse: State that every answer was wrong: it passes its floors, and loses the comparison with a champion.
            expires: End of the verdict's validity; default: by the project's policy.
            key: Signs the verdict; default: the verdict key.

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
            reports=self._worse_reports() if worse else self.project / "reports",
            policy=policy,
            name=NAME,
            intended_use="",
            source=Source(None, False),
            packages=(),
            key=key or self.key,
            write_self_test=self._write_self_test,
            now=expires - timedelta(days=policy.valid_days) if expires else now,
        )
        if not verdict.passed and not failing:
            raise DrillError(f"the project's model does not pass its gate: {'; '.join(verdict.reasons)}")
        return path

    def _worse_reports(self) -> Path:
        reports = Path(shutil.copytree(self.project / "reports", self._scratch / f"reports-{self._count}"))
        head, *rows = (reports / OUTCOMES_FILE).read_text(encoding="utf-8").splitlines()
        wrong = [",".join([*row.split(",")[:2], *("0" for _ in row.split(",")[2:])]) for row in rows]
        (reports / OUTCOMES_FILE).write_text("\n".join([head, *wrong, ""]), encoding="utf-8")
        return reports

    def _parts(self) -> dict[str, Path]:
        """Return the directories of the model's parts; a network that was not exported has no runtime."""
        parts = {name: self.project / "models" / name for name in ("classifier", "runtime", "detector")}
        return {name: place for name, place in parts.items() if place.exists()}

    def _write_self_test(self, model: Path) -> None:
        if self._self_test:  # made once: loading the network for each release would take longer than the drill
            shutil.copyfile(self._self_test, model / selftest.FILE)
            return
        selftest.write(model)
        self._self_test = self._scratch / selftest.FILE
        shutil.copyfile(model / selftest.FILE, self._self_test)


class ScratchRegistry:
    """An MLflow store in ``root``; the drill and the processes that it starts use it through ``env``.

    Args:
        root: Created.
        verdict_key: Signs the verdicts of the registered releases.
        promotion_key: Signs their promotions and standings.
    """

    def __init__(self, root: Path, verdict_key: Ed25519PrivateKey, promotion_key: Ed25519PrivateKey) -> None:
        self.root = root
        pairs = {keys.VERDICTS: verdict_key, keys.PROMOTIONS: promotion_key}
        verdicts, promotions = (PublicKeys.of(key.public_key()) for key in pairs.values())
        self.trusted = TrustedKeys(verdicts, promotions)
        self.model = tracking.WritableRegistry(NAME, keys.Keys(promotion_key, self.trusted))
        root.mkdir(parents=True)
        (root / "params.yaml").write_text(f"publish: {{experiment: {NAME}, model_name: {NAME}}}\n", encoding="utf-8")
        for role, key in pairs.items():
            (root / role.private_file).touch(mode=0o600)  # nothing signs with a key that others can read
            (root / role.private_file).write_bytes(keys.private_pem(key))
            (root / role.public_file).write_bytes(PublicKeys.of(key.public_key()).pem)
        self.env = {
            "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db",
            JOURNAL_ENV: str(root / "signed"),
            **{role.signing_env: str(root / role.private_file) for role in pairs},
            **{role.public_env: str(root / role.public_file) for role in pairs},
            "BUCKLER_MODEL_NAME": NAME,
        }

    def register(self, path: Path, *, signed_with: PublicKeys | None = None) -> str:
        """Register the release in ``path``, whose verdict the verdict key or another one signed; return its version."""
        verdict = open_release(path, signed_with or self.trusted.verdict)
        run = tracking.start_run(NAME, "drill", {})
        uri = tracking.log_release(run, path, labels=verdict.measured["labels"], shape=(1, 1, 3))
        tracking.finish_run(run)
        tags = {registry.DIGEST_TAG: verdict.subject_digest, registry.VERDICT_TAG: verdict.id}
        return self.model.register(uri, tags=tags, description="drill")

    def promote(self, version: str) -> None:
        """Promote as `buckler promote` does."""
        promote_release(self.model, number=version)

    def rollback(self) -> None:
        """Roll back as `buckler rollback` does."""
        rollback_release(self.model)

    def harm(self, version: str, harm: Callable[[Path], object]) -> None:
        """Apply ``harm`` to a version's stored release, as an attacker with access to the registry's disk could."""
        uri = registry.connect().get_model_version_download_uri(NAME, version)
        harm(Path(uri.removeprefix("file://")) / "data" / registry.RELEASE_DIR)

    def sign_promotion(self, version: str, verdict: Verdict) -> None:
        """Sign a promotion without its checks."""
        with signing(self.model) as signer:
            signer.promote(self.model.version(version), verdict)

    def point_to(self, version: str) -> None:
        """Move the champion's alias without a promotion."""
        self.model.set_alias(CHAMPION, version)

    def champion(self) -> str | None:
        """Return the champion's version."""
        found = self.model.by_alias(CHAMPION)
        return found.version if found else None
