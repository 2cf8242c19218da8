"""The set-up of a drill: releases, a scratch registry, durations."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drills.registry import ReleaseBuilder, ScratchRegistry
from drills.service import RunningService, running

# The service reads the registry every second instead of twice a minute: drills measure what follows.
FOLLOW = {"BUCKLER_FOLLOW_SECONDS": "1", "BUCKLER_FOLLOW_JITTER_SECONDS": "0"}


@dataclass(frozen=True)
class Scale:
    """Durations and repetitions: ``FULL`` measures the service, ``SHORT`` only shows that the drill works."""

    worker_kills: int
    promotion_kills: int
    capacity_seconds: float
    overload_seconds: float
    warm_up_seconds: float
    load_seconds: float
    alerts: bool  # whether drills on trust run watch and Prometheus and wait for their alerts


FULL = Scale(3, 50, 15.0, 60.0, 60.0, 600.0, alerts=True)
SHORT = Scale(1, 4, 3.0, 4.0, 3.0, 6.0, alerts=False)


@dataclass
class DrillScene:
    """What one drill works on.

    Attributes:
        directory: Scratch directory of the drill.
        builder: Makes signed releases of the project's model.
        registry: Empty at first.
    """

    scale: Scale
    directory: Path
    builder: ReleaseBuilder
    registry: ScratchRegistry

    @contextmanager
    def service(
        self, env: Mapping[str, str] | None = None, *, workers: int = 1, name: str = "service"
    ) -> Iterator[RunningService]:
        """Run the service on the drill's registry; a second one needs another ``name``, for its files."""
        settings = {**FOLLOW, **self.registry.env, **(env or {})}
        with running(self.directory / name, settings, workers=workers) as service:
            yield service

    def publish(self) -> str:
        """Register a new release and return its version."""
        return self.registry.register(self.builder.build())

    def champion(self) -> str:
        """Publish a release, promote it and return its version."""
        version = self.publish()
        self.registry.promote(version)
        return version
