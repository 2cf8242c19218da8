"""Settings of the console; those that it shares with the service or the watch have the same names."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr

from buckler.serving.settings import SettingUnit, Url
from services.classifier.settings import SharedSettings


class Settings(SharedSettings):
    """The console's settings."""

    console_host: Annotated[str, SettingUnit("address")] = "127.0.0.1"
    """Address that the console is bound to. Put TLS in front of any address but loopback."""

    console_port: Annotated[int, SettingUnit("port")] = Field(default=8088, ge=1, le=65535)
    """Port of the console."""

    console_session_seconds: Annotated[int, SettingUnit("seconds")] = Field(default=1800, ge=60)
    """Time until a person must sign in again."""

    console_trusted_proxies: Annotated[str | None, SettingUnit("addresses or networks separated by commas")] = None
    """Proxies in front of the console whose header `X-Forwarded-Proto` is believed. Behind a proxy that terminates TLS,
    set it: otherwise the cookie lacks `Secure`, and a browser also sends it without TLS."""

    service_url: Url = "http://127.0.0.1:3000"
    """Service that classifies the pictures, without a path."""

    client_key: Annotated[SecretStr | None, SettingUnit("API key")] = Field(default=None, repr=False)
    """Key with the role `predict`, which the console sends to the service."""

    scrape_key_file: Annotated[Path | None, SettingUnit("file")] = None
    """Key with the role `operate`, which the console sends to read the service's metrics."""

    prometheus_url: Url = "http://127.0.0.1:9090"
    """Prometheus, for the live figures."""

    alertmanager_url: Url = "http://127.0.0.1:9093"
    """Alertmanager, for the active alerts."""

    watch_url: Url = "http://127.0.0.1:9108"
    """Metrics of the watch."""

    watch_database_url: Annotated[str | None, SettingUnit("database URL")] = Field(default=None, repr=False)
    """Database of the watch's history of runs. Without it, the SQLite file in `.buckler/watch`."""

    @property
    def keys_required(self) -> bool:
        """Whether people must sign in with a key."""
        return self.keys_required_on(self.console_host)

    @property
    def key(self) -> str | None:
        """The key that the console sends to the service."""
        return self.client_key.get_secret_value() if self.client_key else None
