"""Acts on the results of jobs, as configured in ``watch.policy``.

Every action is counted and written to an audit log in the format of the service's log (`buckler audit verify`).
Degrading or withdrawing a version signs a new standing in the registry, which the service applies. A job that passes
later lifts its own claims, never those of other jobs.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from buckler import params
from buckler.errors import BucklerError, PromotionRefusedError, RegistryError
from buckler.serving.aliases import CHALLENGER, CHAMPION
from buckler.serving.assessment import newest_standing
from buckler.state import paths
from buckler.trust import standing
from buckler.trust.audit import AuditLog
from buckler.trust.standing import Claim, ClaimState, Standing
from buckler.watch import state
from buckler.watch.history import History
from buckler.watch.settings import Action, WatchParams
from buckler.watch.table import SIGNED, Finding

if TYPE_CHECKING:
    from buckler.release.tracking import WritableRegistry

PROMOTES_AFTER = "reevaluate"
# Not the canary, which runs every minute and needs no registry.
COMPARES_RECORDS = ("reevaluate", "probe", "drift")

log = logging.getLogger(__name__)


def follow(job: str, finding: Finding, cfg: WatchParams, history: History) -> list[str]:
    """Take the actions that the policy prescribes for ``finding``; return one phrase for each action taken.

    Args:
        job: Name of the job.
        finding: Its finding.
        cfg: The policy.
        history: Counts the actions.

    Raises:
        BucklerError: The job passed, but the verdict cannot be renewed or the claim lifted, for example because the
            signing key is missing.
    """
    response = _Response(job, finding, history)
    compare_records(job)  # before anything is signed, which would write back what the registry lost
    done = response.renew_and_lift() if finding.passed else response.take(cfg.policy[job])
    if cfg.promote and job == PROMOTES_AFTER:
        done += response.promote()
    return done


def lift(job: str, version: str | None = None) -> str:
    """Lift the claim of ``job`` on ``version`` (default: the champion) at a person's request.

    Raises:
        BucklerError: There is no such claim or no signing key, or the registry cannot be reached.
    """
    from buckler.release import restate as restating

    registry = _registry()
    entry = registry.version(version) if version else registry.champion()
    current = restating.last_standing(registry, entry)
    if current is None or job not in current.claims:
        raise BucklerError(f"{job} has no claim on {entry}; `buckler champion` lists the claims")
    with History() as history:
        return _Response(job, Finding(True, "lifted by a person", version=entry.version), history).lift(entry.version)


def compare_records(job: str) -> None:
    """Compare the registry with the journal and with the highest record seen, and store the result for the exporter.

    Args:
        job: The job that ran; not each of them compares.
    """
    if job not in COMPARES_RECORDS:
        return
    from buckler.release import signing

    try:
        registry = _registry()
        result = signing.compare(registry)
    except BucklerError as error:  # an unreachable registry has its own alerts
        log.warning("cannot compare the registry with the signed records: %s", error)
        return
    for sentence in (*result.registry, *result.journal):
        log.error("signed records were lost: %s", sentence)
    state.write_state(SIGNED, {"registry": list(result.registry), "journal": list(result.journal)})


def note(event: str, **details: Any) -> None:
    """Append a line to the watch's audit log.

    Raises:
        AuditError: The log cannot be written.
    """
    AuditLog(paths.WATCH_AUDIT_LOG).append({"time": datetime.now(UTC).isoformat(), "event": event, **details})


@dataclass(frozen=True, slots=True)
class _Response:
    """The response to one job's finding."""

    job: str
    finding: Finding
    history: History

    def renew_and_lift(self) -> list[str]:
        """Renew the verdict if the finding says so, and lift the job's claims."""
        done = []
        claimed = self._claimed()
        if self.finding.renews_days is not None and self.finding.version is not None:
            until = (datetime.now(UTC) + timedelta(days=self.finding.renews_days)).replace(microsecond=0)
            after = self._restate(self.finding.version, None, until)
            self._note("renew", version=after.version, expires_at=until.isoformat())
            done.append(f"renewed until {until.isoformat()}")
            done += [f"lifted from version {version}" for version in claimed if version == after.version]
            self._write_claimed({version: state for version, state in claimed.items() if version != after.version})
        elif self.finding.version is None or self.finding.version in claimed:
            for version in claimed if self.finding.version is None else [self.finding.version]:
                done.append(self.lift(version))
        return done

    def lift(self, version: str) -> str:
        """Lift this job's claim on ``version``."""
        self._restate(version, None)
        self._note("lift", version=version)
        self._write_claimed({other: state for other, state in self._claimed().items() if other != version})
        return f"lifted from version {version}"

    def take(self, actions: tuple[Action, ...]) -> list[str]:
        """Take ``actions``, those that protect patients before those that take time."""
        steps: dict[Action, Callable[[], str]] = {
            "alert": lambda: "",
            "stop": lambda: self._claim("stop", standing.WITHDRAWN),
            "degrade": lambda: self._claim("degrade", standing.DEGRADED),
            "rollback": lambda: self._roll_back(actions),
        }
        done: list[str] = []
        for action in (known for known in steps if known in actions):
            try:
                done.append(steps[action]())
            except BucklerError as error:  # the next action may still be possible
                self._note(action, outcome="not done", problem=str(error))
                done.append(f"{action} was not possible: {error}")
            else:
                if action == "alert":
                    self._record(action)
        return [phrase for phrase in done if phrase]

    def promote(self) -> list[str]:
        """Promote the challenger if it passes the gate; a refusal is not an error."""
        from buckler.release.promote import promote as promote_release

        registry = _registry()
        challenger, champion = registry.by_alias(CHALLENGER), registry.by_alias(CHAMPION)
        if challenger is None or (champion and champion.version == challenger.version):
            return []
        try:
            move = promote_release(registry)
        except PromotionRefusedError as error:
            log.info("the challenger is not promoted: %s", error)
            return []
        self._note("promote", version=move.version, previous=move.previous)
        return [f"promoted version {move.version}"]

    def _claim(self, action: Action, claimed_state: ClaimState) -> str:
        version = self.finding.version or _registry().champion().version
        before = self._claimed().get(version)
        if before in (claimed_state, standing.WITHDRAWN):
            if self._is_shown(version):
                return ""  # already claimed
            claimed_state = before  # the registry lost it
        after = self._restate(version, Claim(claimed_state, self.finding.message[: standing.LONGEST_REASON]))
        self._write_claimed({**self._claimed(), version: claimed_state})
        self._record(action, version=version, state=after.state)
        return f"version {version} is {after.state}"

    def _is_shown(self, version: str) -> bool:
        """Return whether the registry shows a claim of this job on ``version`` that its services apply."""
        registry = _registry()
        shown, _ = newest_standing(registry.version(version), registry.keys.public())
        return shown is not None and self.job in shown.claims

    def _roll_back(self, actions: tuple[Action, ...]) -> str:
        from buckler.release.promote import rollback

        registry, measured = _registry().signing(), self.finding.version
        if measured is not None and measured != registry.champion().version:
            return f"version {measured} is no longer the champion: not rolled back"
        try:
            move = rollback(registry)
        except RegistryError as error:
            if {"degrade", "stop"} & set(actions):
                raise
            degraded = self._claim("degrade", standing.DEGRADED)
            return f"{degraded or 'already degraded'}, because it cannot be rolled back: {error}"
        self._record("rollback", version=move.version, previous=move.previous)
        return f"rolled back to version {move.version}"

    def _restate(self, version: str, claim: Claim | None, until: datetime | None = None) -> Standing:
        from buckler.release.restate import restate

        registry = _registry()
        after = restate(registry, version, self.job, claim, expires_at=until)
        if version == registry.champion().version:
            state.note_champion(
                version,
                issued_at=after.issued_at,
                expires_at=after.expires_at,
                state=after.state,
                reasons=after.reasons,
            )
        return after

    def _record(self, action: Action, **details: Any) -> None:
        self._note(action, outcome="done", **details)
        self.history.count_action(self.job, action)

    def _note(self, action: str, **details: Any) -> None:
        note("watch", job=self.job, action=action, reason=self.finding.message, **details)

    def _claimed(self) -> dict[str, ClaimState]:
        """Return version -> this job's claim, from a local copy: a passing job then needs no registry."""
        return dict((state.read_state(self._claims_file) or {}).get("versions", {}))

    def _write_claimed(self, versions: Mapping[str, ClaimState]) -> None:
        if versions or self._claimed():
            state.write_state(self._claims_file, {"versions": dict(versions)})

    @property
    def _claims_file(self) -> str:
        return f"{self.job}-claims"


def _registry() -> "WritableRegistry":
    from buckler.release.tracking import WritableRegistry  # MLflow takes seconds to load; most jobs do not need it

    return WritableRegistry(str(params.read()["publish"]["model_name"]))
