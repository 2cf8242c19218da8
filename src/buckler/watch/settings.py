"""Section ``watch`` of params.yaml, and the environment variables of the watch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, SecretStr

from buckler.errors import BucklerError
from buckler.params import CountOrAll, Seed, Whole
from buckler.serving.settings import TRAFFIC_URL, WATCH_HEADER, EnvironmentSettings, SettingUnit, variable
from buckler.watch.table import JOBS

Action = Literal["alert", "degrade", "rollback", "stop"]
Seconds = Annotated[Whole, Field(le=31 * 86_400)]
ACTIONS: tuple[Action, ...] = ("alert", "degrade", "rollback", "stop")


class WatchSettings(EnvironmentSettings):
    """Environment variables of the watch; its other settings are the section ``watch`` of params.yaml."""

    watch_service_url: Annotated[str | None, SettingUnit("URL")] = None
    """Service that the jobs `canary` and `probe` query. Without it, `watch.service_url` of params.yaml."""

    watch_key: Annotated[SecretStr | None, SettingUnit("API key")] = Field(default=None, repr=False)
    """Key that these jobs send to the service. Without it, the content of `watch.key_file` of params.yaml."""

    traffic_url: Annotated[str, SettingUnit("database URL or `off`")] = Field(default=TRAFFIC_URL, repr=False)
    """Database that the service writes its statistics to; the job `drift` reads it."""

    watch_database_url: Annotated[str | None, SettingUnit("database URL")] = Field(default=None, repr=False)
    """Database of the history of runs and of the schedule. Without it, two SQLite files in `.buckler/watch`."""


@dataclass(frozen=True, slots=True)
class JobParams:
    """When a job runs, how long a run may take, and how often it is retried.

    Attributes:
        cron: Minute, hour, day, month, weekday (by name: sun); local time.
        jitter_seconds: Maximum random delay, so that many machines do not start at once.
        limit_seconds: Time limit; a run that takes longer is ended and counts as an error.
        retries: Number of retries after an error; a job that passed or failed is not retried.
        backoff_seconds: Pause before the first retry; each further pause is twice as long.
        misfire_grace_seconds: A run that was missed by at most this time, because the watch was off, still runs, once.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    cron: str
    jitter_seconds: Seconds
    limit_seconds: Seconds
    retries: Annotated[Whole, Field(le=20)]
    backoff_seconds: Seconds
    misfire_grace_seconds: Seconds

    def __post_init__(self) -> None:
        """Reject invalid values."""
        if min(self.limit_seconds, self.misfire_grace_seconds) < 1:
            raise ValueError("expected limit_seconds and misfire_grace_seconds of at least 1")
        if min(self.jitter_seconds, self.retries, self.backoff_seconds) < 0:
            raise ValueError("expected jitter_seconds, retries and backoff_seconds of at least 0")


@dataclass(frozen=True, slots=True)
class RecentParams:
    """The newest labelled pictures, evaluated separately from the pinned ones.

    Attributes:
        path: Folder with one folder per class; empty: only the pinned pictures are evaluated.
        records: Number of pictures, the newest first; 0 takes all.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    path: str
    records: CountOrAll


@dataclass(frozen=True, slots=True)
class WatchParams:
    """Section ``watch`` of params.yaml.

    Attributes:
        jobs: Schedule of each job.
        policy: Actions after each job's failure.
        promote: Whether a re-evaluation promotes a challenger that passes the gate, without a person.
        suite: Attacks of the re-evaluation, in the format of ``attack.suite``.
        records: Number of pinned test pictures that are attacked again; 0 takes all.
        seed: Seed of their choice and of the attacks.
        recent: The newest labelled pictures.
        service_url: Service that canary and probe query; ``BUCKLER_WATCH_SERVICE_URL`` overrides it.
        key_file: File with the API key for that service, if it requires one; ``BUCKLER_WATCH_KEY`` overrides it.
        host: Address on which the metrics are served.
        port: Port on which the metrics are served.
    """

    jobs: Mapping[str, JobParams]
    policy: Mapping[str, tuple[Action, ...]]
    promote: bool
    suite: tuple[Mapping[str, Any], ...]
    records: CountOrAll
    seed: Seed
    recent: RecentParams
    service_url: str
    key_file: str
    host: str
    port: Annotated[Whole, Field(le=65_535)]

    def __post_init__(self) -> None:
        """Reject jobs without a schedule or a policy, and unknown jobs."""
        for name in ("jobs", "policy"):
            if set(getattr(self, name)) != set(JOBS):
                raise ValueError(f"expected {name} for {sorted(JOBS)}, got {sorted(getattr(self, name))}")

    @property
    def address(self) -> str:
        """URL of the service."""
        return WatchSettings.from_env().watch_service_url or self.service_url

    def as_client(self) -> dict[str, Any]:
        """Return the client's arguments: the API key, and the header that marks requests of the watch.

        Raises:
            BucklerError: The file of the key cannot be read.
        """
        return {"key": self.key(), "headers": {WATCH_HEADER: "1"}}

    def key(self) -> str | None:
        """Return the API key of canary and probe; None if there is none.

        Raises:
            BucklerError: The file of the key cannot be read.
        """
        if given := WatchSettings.from_env().watch_key:
            return given.get_secret_value()
        try:
            return Path(self.key_file).read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BucklerError(
                f"cannot read {self.key_file}: {error.strerror}; or set {variable('watch_key')} to the key"
            ) from error
