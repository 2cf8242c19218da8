"""Settings of releases. The canary starts every minute and needs nothing else of this folder."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

Name = Annotated[str, Field(pattern=r"^[^\s/:][^/:]*$")]  # what MLflow accepts


@dataclass(frozen=True, slots=True)
class PublishParams:
    """Section ``publish`` of params.yaml: the names in the registry."""

    experiment: Annotated[str, Field(min_length=1)]
    model_name: Name
