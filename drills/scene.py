"""The set-up of a drill: releases, its own registry, durations."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drills.registry import Builder, Registry
from drills.service import Service, running


@dataclass(frozen=True)
class Scale:
    """How long and how often; ``SHORT`` shows that a drill works, ``FULL`` what the service does."""

    worker_kills: int
    promotion_kills: int
    capacity_seconds: float
    overload_seconds: float
    warm_up_seconds: float
    load_seconds: float


FULL = Scale(3, 50, 15.0, 60.0, 60.0, 600.0)
SHORT = Scale(1, 4, 3.0, 4.0, 3.0, 6.0)


@dataclass
class Scene:
    """One drill's stage."""

    scale: Scale
    directory: Path
    builder: Builder
    registry: Registry

    @contextmanager
    def service(self, env: Mapping[str, str] | None = None, *, workers: int = 1) -> Iterator[Service]:
        """Run the service on the drill's registry."""
        with running(self.directory / "service", {**self.registry.env, **(env or {})}, workers=workers) as service:
            yield service

    def publish(self) -> str:
        """Register a new release and return its number."""
        return self.registry.register(self.builder.build())

    def champion(self) -> str:
        """Publish and promote a release and return its number."""
        number = self.publish()
        self.registry.promote(number)
        return number
