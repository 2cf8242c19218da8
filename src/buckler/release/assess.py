"""Decides whether a registered version may serve, from its signed verdict, standing and promotion."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buckler.errors import VerdictError
from buckler.serving import registry
from buckler.serving.aliases import CHAMPION
from buckler.serving.registry import Version
from buckler.trust import promotion, standing
from buckler.trust.promotion import PromotionRecord
from buckler.trust.standing import Standing
from buckler.trust.verdict import Verdict, check_valid, open_release

TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Assessment:
    """The champion with its verdict and standing; ``problem`` says why it may not serve, None if it may."""

    version: Version
    verdict: Verdict | None
    problem: str | None
    standing: Standing | None = None


@dataclass(frozen=True, slots=True)
class Assessor:
    """Checks the versions of one model.

    Attributes:
        model_name: Name in the registry.
        public_key: Key that must have signed every verdict, standing and promotion.
        now: Aware time at which expiry is checked.
    """

    model_name: str
    public_key: Ed25519PublicKey
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def champion(self) -> Assessment | None:
        """Return the champion with its verdict and current standing; None without a champion.

        Raises:
            RegistryError: The registry cannot be reached.
        """
        champion = registry.by_alias(self.model_name, CHAMPION)
        if champion is None:
            return None
        verdict, current, problem = None, None, None
        try:
            with registry.downloaded(self.model_name, champion.version) as release:
                verdict = open_release(release, self.public_key, name=self.model_name)
            current = self.standing_of(champion, verdict)
            self._check_valid(verdict, current)
            self.promotion_of(champion).check(verdict)
        except VerdictError as error:
            problem = str(error)
        return Assessment(champion, verdict, problem, current)

    def valid_verdict(self, release: Path, version: Version) -> Verdict:
        """Return the verdict of a downloaded release if the version may serve.

        Args:
            release: Directory of the release of ``version``.
            version: Its entry in the registry.

        Raises:
            VerdictError: The verdict is not authentic, did not pass or has expired, renewals included; or a watch job
                has a claim on the version.
        """
        verdict = open_release(release, self.public_key, name=self.model_name)
        self._check_valid(verdict, self.standing_of(version, verdict))
        return verdict

    def _check_valid(self, verdict: Verdict, current: Standing) -> None:
        check_valid(verdict, now=self.now, valid_until=current.expires_at)
        current.check_unclaimed()

    def standing_of(self, version: Version, verdict: Verdict) -> Standing:
        """Return the standing of ``version``: the stored one, else the initial one of ``verdict``.

        Raises:
            VerdictError: ``standing``: the stored standing is not valid.
        """
        if not version.standing:
            return standing.of_verdict(verdict, model_name=self.model_name, version=version.version)
        found = self._stored_standing(version)
        found.check(verdict)
        return found

    def last_standing(self, version: Version) -> Standing:
        """Return the standing of ``version``; a stored one that ``public_key`` did not sign is ignored.

        Raises:
            RegistryError: The registry cannot be reached.
            VerdictError: The version has no authentic verdict.
        """
        with suppress(VerdictError):
            return self._stored_standing(version)
        with registry.downloaded(self.model_name, version.version) as release:
            verdict = open_release(release, self.public_key, name=self.model_name)
        return standing.of_verdict(verdict, model_name=self.model_name, version=version.version)

    def _stored_standing(self, version: Version) -> Standing:
        return standing.read(version.standing, self.public_key, model_name=self.model_name, version=version.version)

    def promotion_of(self, version: Version) -> PromotionRecord:
        """Return the signed record of the last promotion of ``version``.

        Raises:
            VerdictError: ``not_promoted``.
        """
        return promotion.read(version.promotion, self.public_key, model_name=self.model_name, version=version.version)

    def promotions(self) -> Iterator[PromotionRecord]:
        """Yield the valid promotion records of all versions.

        Raises:
            RegistryError: The registry cannot be reached.
        """
        for version in registry.versions(self.model_name):
            with suppress(VerdictError):
                yield self.promotion_of(version)

    def moment_after(self, earlier: Iterable[datetime]) -> datetime:
        """Return ``now``, or just after the latest of ``earlier`` if the clock was set back since.

        The service rejects a signed statement that is older than the newest it has accepted.
        """
        return max([self.now, *(moment + TICK for moment in earlier)])
