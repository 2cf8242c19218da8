"""What an operator may set: environment variables ``BUCKLER_<NAME>``, typed, each with a default."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from buckler.errors import ParamsError
from buckler.state import paths
from services.classifier.settings import MEBIBYTE, PREFIX, is_loopback


class Settings(BaseModel):
    """The console's settings; what it shares with the service bears the same name.

    Attributes:
        console_host: Address the console is bound to.
        console_port: Port of that.
        console_session_seconds: How long a person stays signed in.
        service_url: Of the service that is asked, without a path.
        client_key: With the role ``predict``: the console asks the service with it.
        scrape_key_file: File of a key with the role ``operate``: the console reads the service's metrics with it.
        prometheus_url, alertmanager_url, watch_url: Where figures and alerts are read.
        model_name: Name of the registered model.
        release: Directory of a release, where the service serves that and not the registry's champion.
        require_keys: Whether people must sign in: ``always``, ``never``, or ``auto``, which is unless the console
            is bound to loopback.
        api_keys: File of the keys that people sign in with (`buckler keys`).
        body_limit_bytes: Largest picture that is taken.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    console_host: str = "127.0.0.1"
    console_port: int = Field(default=8088, ge=1, le=65535)
    console_session_seconds: int = Field(default=1800, ge=60)
    service_url: str = Field(default="http://127.0.0.1:3000", pattern="^https?://")
    client_key: SecretStr | None = None
    scrape_key_file: Path | None = None
    prometheus_url: str = Field(default="http://127.0.0.1:9090", pattern="^https?://")
    alertmanager_url: str = Field(default="http://127.0.0.1:9093", pattern="^https?://")
    watch_url: str = Field(default="http://127.0.0.1:9108", pattern="^https?://")
    model_name: str = Field(default="skin-lesion", min_length=1)
    release: Path | None = None
    require_keys: Literal["auto", "always", "never"] = "auto"
    api_keys: Path = paths.API_KEYS
    body_limit_bytes: int = Field(default=10 * MEBIBYTE, ge=1024)

    @property
    def keys_required(self) -> bool:
        """Whether people must sign in with a key."""
        if self.require_keys == "auto":
            return not is_loopback(self.console_host)
        return self.require_keys == "always"

    @property
    def key(self) -> str | None:
        """Return the key to ask the service with."""
        return self.client_key.get_secret_value() if self.client_key else None

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
            # Not the value: it may be the key.
            faults = "; ".join(f"{PREFIX}{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors())
            raise ParamsError(f"environment: {faults}") from error
