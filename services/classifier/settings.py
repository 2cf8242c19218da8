"""Settings of the service; what belongs to a model (threshold, input size, labels) comes with the release instead."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from buckler.serving.settings import TRAFFIC_URL, EnvironmentSettings, SettingUnit
from buckler.state import paths
from buckler.trust import audit
from services.classifier import host_names

MEBIBYTE = 1024 * 1024

Bytes = Annotated[int, SettingUnit("bytes")]
Pictures = Annotated[int, SettingUnit("pictures")]
Seconds = Annotated[float, SettingUnit("seconds")]

_ORIGIN = re.compile(r"https?://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]+)?")


def _listed(text: str | None) -> set[str]:
    return {each.strip() for each in (text or "").split(",")} - {""}


class SharedSettings(EnvironmentSettings):
    """Settings that the service and the console share."""

    model_name: Annotated[str, SettingUnit("name")] = Field(default="skin-lesion", min_length=1)
    """Name of the registered model."""

    release: Annotated[Path | None, SettingUnit("directory")] = None
    """Release directory to serve. Without it, the registry's champion is served."""

    require_keys: Literal["auto", "always", "never"] = "auto"
    """Whether clients must send an API key. `auto` requires one unless the process is bound to loopback. Behind a proxy
    on the same machine, set `always`: `auto` cannot detect the proxy."""

    host_names: Annotated[str | None, SettingUnit("names separated by commas")] = None
    """Names by which a process that needs no keys is addressed, besides `localhost` and addresses. Another name in the
    header `Host` is refused (421): a foreign page can have its own name resolve to this machine. If keys are required,
    the name is not checked."""

    api_keys: Annotated[Path, SettingUnit("file")] = paths.API_KEYS
    """API keys, as written by `buckler keys`; read again when the file changes."""

    audit_log: Annotated[Literal["off"] | Path, SettingUnit("file or `off`")] = paths.AUDIT_LOG
    """Audit log. `off` turns it off; an empty variable does not, because it counts as not set."""

    body_limit_bytes: Bytes = Field(default=32 * MEBIBYTE, ge=1024)
    """Largest request body that is read. A 12-megapixel PNG has 18 MB, in base64 24 MB."""

    def keys_required_on(self, host: str | None) -> bool:
        """Return whether clients must send a key to a process that is bound to ``host``."""
        if self.require_keys == "auto":
            return not host_names.is_loopback(host)
        return self.require_keys == "always"

    def accepts_host_on(self, bound: str | None, header: str) -> bool:
        """Return whether a process that is bound to ``bound`` answers a request with this header ``Host``.

        Browsers always send the header; what sends none is no page.
        """
        if self.keys_required_on(bound) or not header:
            return True
        names = {name.lower() for name in _listed(self.host_names)}
        return host_names.is_own(header, bound=bound, names=names)


def _check_origins(text: str | None) -> str | None:
    for origin in _listed(text):
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(
                "expected origins as browsers send them, such as https://viewer.hospital.example or"
                " http://localhost:8080, separated by commas; `*`, which would allow every page, is not one"
            )
    return text


class Settings(SharedSettings):
    """The service's settings."""

    host: Annotated[str, SettingUnit("address")] = "127.0.0.1"
    """Address that `python -m services.classifier` binds the service to; its option `--host` takes precedence."""

    bound_host: Annotated[str | None, SettingUnit("address")] = None
    """Address that the service is bound to. `python -m services.classifier` sets it; do not set it yourself. A service
    that does not know its address requires keys."""

    workers: Annotated[int, SettingUnit("processes")] = Field(default=1, ge=1)
    """Worker processes. Each loads the model and applies the limits below to its own requests only: two workers
    together accept up to twice as many."""

    cors_origins: Annotated[str | None, AfterValidator(_check_origins), SettingUnit("origins separated by commas")] = (
        None
    )
    """Origins whose pages may read answers (CORS), such as `https://viewer.hospital.example`. Without it, browsers show
    answers to no foreign page. Where no keys are required, these pages can send pictures and read metrics."""

    batch_limit: Pictures = Field(default=8, ge=1)
    """Most pictures in one request."""

    max_connections: Annotated[int, SettingUnit("connections")] = Field(default=512, ge=8)
    """Open connections. Beyond that, the connection that has gone longest without completing a request head is
    closed."""

    head_timeout_seconds: Seconds = Field(default=10.0, gt=0)
    """Time that a client has to send a request head, counted from the connection or from the previous answer."""

    body_timeout_seconds: Seconds = Field(default=15.0, gt=0)
    """Time that a client has to send a request body."""

    send_timeout_seconds: Seconds = Field(default=10.0, gt=0)
    """Time that a client has to receive 48 kB of an answer that exceeds the send buffers."""

    decode_timeout_seconds: Seconds = Field(default=5.0, gt=0)
    """Time to decode one picture, or to parse a body of JSON; the time for which it waits its turn does not count."""

    request_timeout_seconds: Seconds = Field(default=10.0, gt=0)
    """Time between the end of a request body and its answer."""

    key_requests_per_second: Annotated[float, SettingUnit("pictures per second")] = Field(
        default=10.0, gt=0, allow_inf_nan=False
    )
    """Sustained rate of one API key."""

    key_burst: Pictures = Field(default=20, ge=1)
    """Pictures that one API key may send at once after a pause."""

    key_concurrency: Pictures = Field(default=8, ge=1)
    """Unanswered pictures of one API key."""

    max_in_progress: Pictures = Field(default=32, ge=1)
    """Unanswered pictures of all clients. A worker computes one picture at a time: at four pictures per second, the
    last of 32 waits 8 seconds, which is within `BUCKLER_REQUEST_TIMEOUT_SECONDS`."""

    bodies_limit_bytes: Bytes = Field(default=320 * MEBIBYTE, ge=1024)
    """Bytes of all request bodies that one worker holds until their answers are sent."""

    query_attack: Literal["flag", "refuse", "off"] = "flag"
    """Response to a run of near-identical pictures from one client: `flag` answers them with `review`, `refuse` answers
    429, `off` turns the check off. Other pictures of that client are not affected."""

    query_run: Pictures = Field(default=12, ge=3)
    """Different, near-identical pictures that make a run. Raise it for clients that send video frames."""

    query_window_seconds: Seconds = Field(default=3600.0, gt=0, allow_inf_nan=False)
    """Time for which a picture counts towards a run."""

    audit_fsync: audit.Fsync = "always"
    """When a line of the audit log is flushed to disk: `always` before its answer is sent, `interval` within a second
    after."""

    audit_segment_bytes: Bytes = Field(default=audit.SEGMENT_BYTES, ge=MEBIBYTE)
    """Size at which a file of the audit log is renamed; the chain continues in a new file."""

    receipt_key: Annotated[str | None, SettingUnit("file or `pkcs11:` URI")] = None
    """Private key that signs receipts. Without it, `.buckler/keys/receipts.pem` is used if it exists."""

    releases_dir: Annotated[Path, SettingUnit("directory")] = paths.RELEASES
    """Copies of verified champions, served when the registry is unavailable or its champion is refused."""

    follow_seconds: Seconds = Field(default=30.0, gt=0, allow_inf_nan=False)
    """Time between two checks for a new release. A new champion answers after this time, the jitter, and the time to
    load it."""

    follow_jitter_seconds: Seconds = Field(default=5.0, ge=0, allow_inf_nan=False)
    """Upper bound of a random delay added to each check, so that workers do not all load at once."""

    previous_model_seconds: Seconds = Field(default=3600.0, ge=0)
    """Time for which the previous model stays in memory, so that a roll-back is immediate; 0 frees it at once. Until
    then, two models occupy memory."""

    shadow_share: Annotated[float, SettingUnit("share")] = Field(default=0.0, ge=0, le=1)
    """Share of the answered pictures that the registry's challenger classifies too. Its answers are compared and never
    returned. Any value above 0 needs the memory of another model."""

    traffic_url: Annotated[str, SettingUnit("database URL or `off`")] = Field(default=TRAFFIC_URL, repr=False)
    """Database for statistics of answered pictures: `sqlite:///FILE`, `postgresql://USER:PASSWORD@HOST/NAME` (extra
    `postgres`), or `off`. The watch reads the same database."""

    traffic_days: Annotated[float, SettingUnit("days")] = Field(default=30.0, gt=0, allow_inf_nan=False)
    """Age at which these statistics are deleted."""

    traffic_rows: Annotated[int, SettingUnit("rows")] = Field(default=1_000_000, ge=1)
    """Most rows of these statistics; the oldest are deleted first. A million rows take about 200 MB."""

    @property
    def keys_required(self) -> bool:
        """Whether a client must send a key."""
        return self.keys_required_on(self.bound_host)

    @property
    def allowed_origins(self) -> frozenset[str]:
        """Origins whose pages may read answers."""
        return frozenset(_listed(self.cors_origins))
