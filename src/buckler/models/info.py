"""Description of a classifier, for every engine: a JSON file beside the network."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pydantic

from buckler.errors import ModelError
from buckler.measurements.data_source import DataSource
from buckler.modality import table
from buckler.modality.base import UNRESTORED, InputForm
from buckler.state.locations import Location

INFO_FILE = "model.json"
SCHEMA = 4
# Before 3, models were of pictures and stated the side only; before 2 they had no ``heat_maps``, which every network
# had; before 4 no ``restore``: pictures reached every network as they are.
EARLIER = (1, 2, 3)

Document = TypeVar("Document")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Labels, input and origin of a classifier; the only place where its labels and input size are stored.

    Attributes:
        labels: Class names in the order of the logits.
        dangerous: Those of ``labels`` that must not be missed: a flip to any other label harms a patient; may be empty.
            Files, metrics and the REST interface call them ``malignant``.
        shape: Shape of one input.
        data_version: Digest of the splits it was trained and tested on, as `buckler.data.pictures.version`.
        defence: Against attacks, as ``train.defence``; a randomised network's answers vary.
        architecture: Name of its network in `buckler.models.networks.table`; ``file`` for one from a file.
        initial_weights: What its training started from: ``sha256:...`` of a file, ``md5:...`` of a download, ``none``
            (drawn from the seed). None for models of versions that did not record it.
        data_source: Where its records come from, as ``data.source``. None for models of versions that did not record
            it.
        modality: Name of its modality in `buckler.modality.table`.
        findings: If a record may have several labels at once: the findings, of which each of ``labels`` names a set.
        heat_maps: Whether a heat map can explain its answers; see `buckler.models.networks.layout.Layout.pooling`.
        restore: Name of the restoration step before the network, one of its modality's ``restorations``.
    """

    labels: tuple[str, ...]
    dangerous: Annotated[tuple[str, ...], pydantic.Field(alias="malignant")]
    shape: Annotated[tuple[Annotated[int, pydantic.Field(ge=1)], ...], pydantic.Field(min_length=1)]
    data_version: str
    defence: Literal["none", "adversarial", "randomised"] = "none"
    architecture: str = "vgg19"
    initial_weights: str | None = None
    data_source: DataSource | None = None
    heat_maps: bool = True
    modality: str = "picture"
    findings: tuple[str, ...] = ()
    restore: str = UNRESTORED
    schema: int = SCHEMA

    @property
    def form(self) -> InputForm:
        """What the classifier reads."""
        return InputForm(table.find(self.modality), self.shape)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read(cls, content: Any) -> Any:
        """Accept the description of an earlier version."""
        if not isinstance(content, dict) or content.get("schema") not in EARLIER:
            return content
        if content["schema"] == 3:
            return {**content, "schema": SCHEMA}
        kept = {key: value for key, value in content.items() if key not in ("image_size", "schema")}
        return {**kept, "shape": table.find("picture").shape(content.get("image_size", 0)), "schema": SCHEMA}


def save_info(info: ModelInfo, directory: Path) -> None:
    """Write the description of the classifier in ``directory``."""
    content = pydantic.TypeAdapter(ModelInfo).dump_python(info, mode="json", by_alias=True)
    (directory / INFO_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load_info(directory: Location) -> ModelInfo:
    """Return the description of the classifier in ``directory``.

    Raises:
        ModelError: The file is missing, malformed or of another schema.
    """
    path = directory / INFO_FILE
    info = read_document(path, ModelInfo, about="a classifier", missing="expected a saved classifier")
    if info.schema != SCHEMA:
        raise ModelError(f"{path}: expected schema {', '.join(map(str, EARLIER))} or {SCHEMA}, got {info.schema}")
    if info.modality not in table.names():
        raise ModelError(f"{path}: expected one of the modalities {', '.join(table.names())}, got {info.modality!r}")
    if info.restore not in (known := info.form.modality.restorations):
        raise ModelError(f"{path}: expected one of the restoration steps {', '.join(known)}, got {info.restore!r}")
    return info


def read_document(path: Location, kind: type[Document], *, about: str, missing: str) -> Document:
    """Return the JSON file ``path`` as the dataclass ``kind``.

    Args:
        path: In a model's directory.
        kind: A dataclass; unknown and missing keys are errors.
        about: What the file describes, for the error.
        missing: End of the error message if there is no such file.

    Raises:
        ModelError: The file is missing or malformed.
    """
    try:
        return pydantic.TypeAdapter(kind).validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelError(f"no {path.name} in {path.parent}; {missing}") from error
    except pydantic.ValidationError as error:
        raise ModelError(f"{path} does not describe {about}: {error}") from error
