"""Section ``watch`` of params.yaml, and the environment variables that the watch reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, SecretStr

from buckler.errors import BucklerError
from buckler.serving.settings import TRAFFIC_URL, EnvironmentSettings, Unit, variable
from buckler.serving.traffic import WATCH_HEADER
from buckler.watch.table import JOBS

Action = Literal["alert", "degrade", "rollback", "stop"]
ACTIONS: tuple[Action, ...] = ("alert", "degrade", "rollback", "stop")


class WatchSettings(EnvironmentSettings):
    """What the watch reads from the environment; the rest is the section ``watch`` of params.yaml."""

    watch_service_url: Annotated[str | None, Unit("URL")] = None
    """Service that the jobs `canary` and `probe` query. Without it, `watch.service_url` of params.yaml."""

    watch_key: Annotated[SecretStr | None, Unit("API key")] = Field(default=None, repr=False)
    """Key that these jobs send to the service. Without it, the content of `watch.key_file` of params.yaml."""

    traffic_url: Annotated[str, Unit("database URL or `off`")] = Field(default=TRAFFIC_URL, repr=False)
    """Database that the service writes its statistics to; the job `drift` reads it."""

    watch_database_url: Annotated[str | None, Unit("database URL")] = Field(default=None, repr=False)
    """Database of the history of runs and of the schedule. Without it, two SQLite files in `.buckler/watch`."""


@dataclass(frozen=True, slots=True)
class JobParams:
    """When a job runs, and how long and how often it may try.

    Attributes:
        cron: Minute, hour, day, month, weekday (by name: sun); local time.
        jitter_seconds: Random delay, so that many machines do not start at once.
        limit_seconds: A run that takes longer is ended, as an error.
        retries: How often a run that ended in an error is tried again; one that failed its judgement is not.
        backoff_seconds: Before the first of these; before each further one twice as long.
        misfire_grace_seconds: A run missed by less, because the machine was off, is made up for once.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    cron: str
    jitter_seconds: int
    limit_seconds: int
    retries: int
    backoff_seconds: int
    misfire_grace_seconds: int

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if min(self.limit_seconds, self.misfire_grace_seconds) < 1:
            raise ValueError("expected limit_seconds and misfire_grace_seconds of at least 1")
        if min(self.jitter_seconds, self.retries, self.backoff_seconds) < 0:
            raise ValueError("expected jitter_seconds, retries and backoff_seconds of at least 0")


@dataclass(frozen=True, slots=True)
class RecentParams:
    """The newest labelled pictures, judged apart from the pinned ones.

    Attributes:
        path: A folder a class; empty: there are none.
        records: How many are attacked, the newest first; 0 takes all.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    path: str
    records: int


@dataclass(frozen=True, slots=True)
class WatchParams:
    """Section ``watch`` of params.yaml.

    Attributes:
        jobs: When each job of the table runs.
        policy: What follows when a job fails, in this order.
        promote: Whether a challenger is promoted without a person, after a re-evaluation, if its verdict allows.
        suite: The attacks of the re-evaluation, as ``attack.suite`` has them.
        records: Pinned test pictures attacked again; 0 takes all.
        seed: Of their choice and of the attacks.
        recent: The newest labelled pictures.
        service_url: Of the service that canary and probe ask; ``BUCKLER_WATCH_SERVICE_URL`` comes first.
        key_file: With the API key for that, where the service asks for one; ``BUCKLER_WATCH_KEY`` comes first.
        host: Address that the metrics are served on.
        port: Port of that.
    """

    jobs: Mapping[str, JobParams]
    policy: Mapping[str, tuple[Action, ...]]
    promote: bool
    suite: tuple[Mapping[str, Any], ...]
    records: int
    seed: int
    recent: RecentParams
    service_url: str
    key_file: str
    host: str
    port: int

    def __post_init__(self) -> None:
        """Refuse a job without a schedule or without a policy, and a name that is no job's."""
        for name in ("jobs", "policy"):
            if set(getattr(self, name)) != set(JOBS):
                raise ValueError(f"expected {name} for {sorted(JOBS)}, got {sorted(getattr(self, name))}")

    @property
    def address(self) -> str:
        """Of the service."""
        return WatchSettings.from_env().watch_service_url or self.service_url

    def as_client(self) -> dict[str, Any]:
        """Return what a client says so that the service knows whose pictures these are.

        Raises:
            BucklerError: As ``key``.
        """
        return {"key": self.key(), "headers": {WATCH_HEADER: "1"}}

    def key(self) -> str | None:
        """Return the API key that canary and probe show, None without one.

        Raises:
            BucklerError: Its file cannot be read.
        """
        if given := WatchSettings.from_env().watch_key:
            return given.get_secret_value()
        try:
            return Path(self.key_file).read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BucklerError(
                f"cannot read {self.key_file}: {error.strerror}; set {variable('watch_key')} to pass the key itself"
            ) from error
