"""What follows from what a job found, as ``watch.policy`` says.

Every action is a line of an audit log with the chain of the service's own (`buckler audit verify`), and counted. What
degrades a version or withdraws it is signed and put beside it in the registry, where the service follows it. A later
pass of the same job lifts what that job said, and nothing else.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from buckler import params
from buckler.errors import BucklerError, PromotionRefusedError, RegistryError
from buckler.state import paths
from buckler.trust import keys, standing
from buckler.trust.audit import AuditLog
from buckler.trust.standing import Claim, Standing, State
from buckler.watch import state
from buckler.watch.history import History
from buckler.watch.settings import Action, WatchParams
from buckler.watch.table import Result

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PROMOTES_AFTER = "reevaluate"

log = logging.getLogger(__name__)


def follow(job: str, result: Result, cfg: WatchParams, history: History) -> list[str]:
    """Do what the policy says, and return what was done, in words.

    Args:
        job: Which found it.
        result: What it found.
        cfg: The policy.
        history: Counts the actions.

    Raises:
        BucklerError: It passed, and cannot be renewed or lifted: without the key that signs, for example.
    """
    case = Case(job, result, history)
    done = case.passed() if result.passed else case.failed(cfg.policy[job])
    if cfg.promote and job == PROMOTES_AFTER:
        done += case.promote()
    return done


def lift(job: str, version: str | None = None) -> str:
    """Take back, on a person's word, what ``job`` holds against a version; default: the champion.

    Raises:
        BucklerError: There is nothing to take back, no key to sign with, or no registry.
    """
    from buckler.serving import registry

    number = version or _champion()
    name, text = _model_name(), registry.version(_model_name(), number).standing
    stands = standing.read(text, _key().public_key(), model_name=name, version=number) if text else None
    if stands is None or job not in stands.claims:
        raise BucklerError(f"{job} holds nothing against version {number} of {name}; `buckler champion` shows who does")
    return Case(job, Result(True, "lifted by a person", version=number), History()).lift(number)


def note(event: str, **details: Any) -> None:
    """Write a line of the watch's audit log.

    Raises:
        AuditError: It cannot be written.
    """
    AuditLog(paths.WATCH_AUDIT_LOG).append({"time": datetime.now(UTC).isoformat(), "event": event, **details})


@dataclass(frozen=True, slots=True)
class Case:
    """What one job found, and what may be done about it."""

    job: str
    result: Result
    history: History

    # The registry's client takes seconds to load, and a job that passes each minute has no use for it.

    def passed(self) -> list[str]:
        """Renew the verdict if passing does, and lift what this job held against a version."""
        done = []
        claimed = self._claimed()
        if self.result.renews_days is not None and self.result.version is not None:
            until = (datetime.now(UTC) + timedelta(days=self.result.renews_days)).replace(microsecond=0)
            after = self._restate(self.result.version, None, until)
            self._note("renew", version=after.version, expires_at=until.isoformat())
            done.append(f"renewed until {until.isoformat()}")
            done += [f"lifted from version {version}" for version in claimed if version == after.version]
            self._keep_claimed({version: said for version, said in claimed.items() if version != after.version})
        elif self.result.version is None or self.result.version in claimed:
            for version in claimed if self.result.version is None else [self.result.version]:
                done.append(self.lift(version))
        return done

    def lift(self, version: str) -> str:
        """Take back what this job said against ``version``."""
        self._restate(version, None)
        self._note("lift", version=version)
        self._keep_claimed({kept: said for kept, said in self._claimed().items() if kept != version})
        return f"lifted from version {version}"

    def failed(self, actions: tuple[Action, ...]) -> list[str]:
        """Take ``actions`` in their order, what protects patients before what takes time."""
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
            except BucklerError as error:  # the next may still be possible; what was not done is said
                self._note(action, outcome="not done", problem=str(error))
                done.append(f"{action} was not possible: {error}")
            else:
                if action == "alert":
                    self._taken(action)
        return [said for said in done if said]

    def promote(self) -> list[str]:
        """Promote the challenger if its verdict allows; that it does not is no error."""
        from buckler.release.promote import promote as promote_release
        from buckler.serving import registry

        name = _model_name()
        challenger = registry.by_alias(name, registry.CHALLENGER)
        champion = registry.by_alias(name, registry.CHAMPION)
        if challenger is None or (champion and champion.version == challenger.version):
            return []
        try:
            move = promote_release(name, _key())
        except PromotionRefusedError as error:
            log.info("the challenger is not promoted: %s", error)
            return []
        self._note("promote", version=move.version, previous=move.previous)
        return [f"promoted version {move.version}"]

    def _claim(self, action: Action, said: State) -> str:
        version = self.result.version or _champion()
        before = self._claimed().get(version)
        if before in (said, standing.WITHDRAWN):
            return ""  # it stands there already
        after = self._restate(version, Claim(said, self.result.message[: standing.LONGEST_REASON]))
        self._keep_claimed({**self._claimed(), version: said})
        self._taken(action, version=version, state=after.state)
        return f"version {version} is {after.state}"

    def _roll_back(self, actions: tuple[Action, ...]) -> str:
        from buckler.release.promote import rollback

        key, judged = _key(), self.result.version
        if judged is not None and judged != _champion():
            return f"version {judged} is no longer the champion: not rolled back"
        try:
            move = rollback(_model_name(), key)
        except RegistryError as error:
            if {"degrade", "stop"} & set(actions):
                raise
            said = self._claim("degrade", standing.DEGRADED)
            return f"{said or 'it is degraded already'}, because it cannot be rolled back: {error}"
        self._taken("rollback", version=move.version, previous=move.previous)
        return f"rolled back to version {move.version}"

    def _restate(self, version: str, claim: Claim | None, until: datetime | None = None) -> Standing:
        from buckler.release.promote import restate

        after = restate(_model_name(), version, _key(), self.job, claim, expires_at=until)
        if version == _champion():
            state.note_champion(
                version,
                issued_at=after.issued_at,
                expires_at=after.expires_at,
                state=after.state,
                reasons=after.reasons,
            )
        return after

    def _taken(self, action: Action, **details: Any) -> None:
        self._note(action, outcome="done", **details)
        self.history.count_action(self.job, action)

    def _note(self, action: str, **details: Any) -> None:
        note("watch", job=self.job, action=action, reason=self.result.message, **details)

    def _claimed(self) -> dict[str, State]:
        """Return version -> what this job said against it; kept here, so that passing need not ask the registry."""
        return dict((state.read_state(self._claims_file) or {}).get("versions", {}))

    def _keep_claimed(self, versions: Mapping[str, State]) -> None:
        if versions or self._claimed():
            state.write_state(self._claims_file, {"versions": dict(versions)})

    @property
    def _claims_file(self) -> str:
        return f"{self.job}-claims"


def _key() -> "Ed25519PrivateKey":
    return keys.load_private_key()


def _model_name() -> str:
    return str(params.read()["publish"]["model_name"])


def _champion() -> str:
    from buckler.serving import registry

    champion = registry.by_alias(_model_name(), registry.CHAMPION)
    if champion is None:
        raise RegistryError(f"{_model_name()} has no champion in {registry.shown_uri()}; `buckler promote` makes one")
    return champion.version
