"""Settings of releases. The canary starts every minute and needs nothing else of this folder."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PublishParams:
    """Section ``publish`` of params.yaml: the names in the registry."""

    experiment: str
    model_name: str
