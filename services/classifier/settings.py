"""What an operator may set: environment variables ``BUCKLER_<NAME>``, typed, each with a default.

What belongs to a model (threshold, input size, labels) is never set here: it comes from the release.
"""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from buckler.errors import ParamsError
from buckler.serving.traffic import DEFAULT_URL as TRAFFIC_URL
from buckler.state import paths
from buckler.trust import audit

PREFIX = "BUCKLER_"
MEBIBYTE = 1024 * 1024


class Settings(BaseModel):
    """The service's settings.

    Attributes:
        release: Directory of a release to serve; without it the registry's champion is served.
        model_name: Name of the registered model; stands in every answer.
        releases_dir: Where champions that verified are kept, for when the registry is away or errs.
        body_limit_bytes: Largest request body that is read.
        max_connections: Open connections; beyond it the one that has kept its head back for longest is closed.
        head_timeout_seconds: Time a client has to send a request's head, from when the connection or its last answer
            was there.
        send_timeout_seconds: Time a client has to take 48 kB of an answer that does not fit into the buffers.
        body_timeout_seconds: Time a client has to send its body.
        batch_limit: Pictures that one request may hold.
        request_timeout_seconds: Time an answer may take once the body is there.
        workers: Worker processes; each loads the model, and each counts the limits below for itself: with two
            workers a client may get twice as much through.
        require_keys: Whether clients must show a key: ``always``, ``never``, or ``auto``, which is unless the
            service is bound to loopback. Behind a proxy on the same machine ``auto`` cannot tell: say ``always``.
        bound_host: Address the service is bound to. ``python -m services.classifier`` sets it, nobody else should;
            where it is missing the service asks for keys.
        api_keys: File of the keys (`buckler keys`); read again when it changes.
        key_requests_per_second: Pictures a second that one key may send in the long run.
        key_burst: Pictures that one key may send together after a pause.
        key_concurrency: Pictures of one key that are in the works at once.
        max_in_progress: Pictures of all clients that are in the works at once. A worker computes one at a time: at
            four a second the last of 32 waits for 8 seconds, which is within ``request_timeout_seconds``.
        query_attack: What follows when one client's pictures are a run of near-identical ones: ``flag`` answers them
            ``review``, ``refuse`` answers them 429, ``off`` looks at none. Other pictures of that client go on.
        query_run: Different, near-identical pictures that make a run. Raise it for clients that send films.
        query_window_seconds: How long a picture is remembered.
        audit_log: File of the audit log, ``off`` for none: a word, because an empty variable counts as not set.
        audit_fsync: ``always``: no answer before its line is on the disk; ``interval``: within a second after.
        audit_segment_bytes: A file of the log that has grown to this size is put aside and the chain goes on.
        receipt_key: Private key to sign receipts with; without it ``.buckler/keys/receipts.pem``, if it is there.
        follow_seconds: Time between two looks at what is to serve; a new champion answers within it, the jitter, and
            the time to load.
        follow_jitter_seconds: Up to so much is added to it at random, so that workers do not all load at once.
        previous_model_seconds: Time for which the model before this one stays in memory, so that a roll-back is
            instant; 0 lets go of it at once. Until then two models take their memory.
        shadow_share: Share of the answered pictures, 0 to 1, that the registry's challenger is asked about too; its
            answers are compared and never given. It takes the memory of another model.
        traffic_url: Database that numbers about answered pictures are written to (`buckler.serving.traffic`), as
            ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/NAME``; ``off`` for none.
        traffic_days: After so many days they are deleted.
        traffic_rows: Of more than so many the oldest are deleted; a million take some 400 MB.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    release: Path | None = None
    model_name: str = Field(default="skin-lesion", min_length=1)
    releases_dir: Path = paths.RELEASES
    body_limit_bytes: int = Field(default=10 * MEBIBYTE, ge=1024)
    max_connections: int = Field(default=512, ge=8)
    head_timeout_seconds: float = Field(default=10.0, gt=0)
    send_timeout_seconds: float = Field(default=10.0, gt=0)
    body_timeout_seconds: float = Field(default=15.0, gt=0)
    batch_limit: int = Field(default=8, ge=1)
    request_timeout_seconds: float = Field(default=10.0, gt=0)
    workers: int = Field(default=1, ge=1)
    require_keys: Literal["auto", "always", "never"] = "auto"
    bound_host: str | None = None
    api_keys: Path = paths.API_KEYS
    key_requests_per_second: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    key_burst: int = Field(default=20, ge=1)
    key_concurrency: int = Field(default=8, ge=1)
    max_in_progress: int = Field(default=32, ge=1)
    query_attack: Literal["flag", "refuse", "off"] = "flag"
    query_run: int = Field(default=12, ge=3)
    query_window_seconds: float = Field(default=3600.0, gt=0, allow_inf_nan=False)
    audit_log: Literal["off"] | Path = paths.AUDIT_LOG
    audit_fsync: audit.Fsync = "always"
    audit_segment_bytes: int = Field(default=audit.SEGMENT_BYTES, ge=MEBIBYTE)
    receipt_key: Path | None = None
    follow_seconds: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    follow_jitter_seconds: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    previous_model_seconds: float = Field(default=3600.0, ge=0)
    shadow_share: float = Field(default=0.0, ge=0, le=1)
    traffic_url: str = TRAFFIC_URL
    traffic_days: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    traffic_rows: int = Field(default=1_000_000, ge=1)

    @property
    def keys_required(self) -> bool:
        """Whether a client must show a key."""
        if self.require_keys == "auto":
            return not is_loopback(self.bound_host)
        return self.require_keys == "always"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read the settings; an empty variable counts as not set.

        Raises:
            ParamsError: A value has the wrong type or is out of range.
        """
        given = {name: environ.get(PREFIX + name.upper()) for name in cls.model_fields}
        try:
            return cls.model_validate({name: value for name, value in given.items() if value})
        except ValidationError as error:
            faults = "; ".join(
                f"{PREFIX}{str(fault['loc'][0]).upper()}: {fault['msg']}, got {fault['input']!r}"
                for fault in error.errors()
            )
            raise ParamsError(f"environment: {faults}") from error


def is_loopback(host: str | None) -> bool:
    """Return whether nobody but this machine can reach what is bound to ``host``."""
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:  # a name may be anywhere
        return False
