"""Settings of releases. The canary starts every minute and needs nothing else of this folder."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

Name = Annotated[str, Field(pattern=r"^[^\s/:][^/:]*$")]  # what MLflow accepts


@dataclass(frozen=True, slots=True)
class PublishParams:
    """Section ``publish`` of params.yaml: the names in the registry, and what the model is for.

    Attributes:
        intended_use: A sentence or two, which the verdict states; empty: `buckler.serving.model_card.intended_use`.
    """

    experiment: Annotated[str, Field(min_length=1)]
    model_name: Name
    intended_use: Annotated[str, Field(max_length=500)] = ""
