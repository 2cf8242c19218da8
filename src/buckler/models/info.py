"""What must be known of a classifier to use it, whatever engine computes it; a JSON file beside the network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import pydantic

from buckler.errors import ModelError

ARCHITECTURE = "vgg19"
INFO_FILE = "model.json"
SCHEMA = 1

Document = TypeVar("Document")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a classifier's numbers mean; the only place where its labels and input size are written down.

    Attributes:
        labels: Class names in the order of the logits.
        malignant: Those of ``labels`` whose flip to any other is the dangerous one; may be empty.
        image_size: Pixels a side at the input.
        data_version: Digest of the splits it was trained and tested on, as `buckler.data.pictures.version`.
        defence: What was done against attacks, as ``train.defence``; a randomised network answers at random.
    """

    labels: tuple[str, ...]
    malignant: tuple[str, ...]
    image_size: int
    data_version: str
    defence: Literal["none", "adversarial", "randomised"] = "none"
    architecture: str = ARCHITECTURE
    schema: int = SCHEMA


def load_info(directory: Path) -> ModelInfo:
    """Return what is said of the classifier in ``directory``.

    Raises:
        ModelError: The file is missing, malformed or of another schema.
    """
    path = directory / INFO_FILE
    info = read_document(path, ModelInfo, about="a classifier", missing="expected a saved classifier")
    if info.schema != SCHEMA or info.architecture != ARCHITECTURE:
        raise ModelError(
            f"{path}: expected schema {SCHEMA} of {ARCHITECTURE}, got {info.schema} of {info.architecture}"
        )
    return info


def read_document(path: Path, kind: type[Document], *, about: str, missing: str) -> Document:
    """Return the JSON file ``path`` as the dataclass ``kind``.

    Args:
        path: In a model's directory.
        kind: A dataclass; keys that it lacks, or that lack, are errors.
        about: What the file describes, for the error.
        missing: What to say where there is no such file.

    Raises:
        ModelError: The file is missing or malformed.
    """
    try:
        return pydantic.TypeAdapter(kind).validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelError(f"no {path.name} in {path.parent}; {missing}") from error
    except pydantic.ValidationError as error:
        raise ModelError(f"{path} does not describe {about}: {error}") from error
