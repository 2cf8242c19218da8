"""Valid inputs of every target, from which fuzzers start; `python -m tests.fuzz all --seeds` writes them."""

from collections.abc import Callable

from tests.fuzz import document_seeds, picture_seeds, request_seeds
from tests.fuzz.table import Inputs, Target


def of(target: str) -> Inputs:
    """Return the valid inputs of a target by name."""
    made: dict[str, Callable[[], Inputs]] = {
        "jpeg": picture_seeds.jpeg_inputs,
        "png": picture_seeds.png_inputs,
        "dicom": picture_seeds.dicom_inputs,
        "heads": request_seeds.heads_inputs,
        "form": request_seeds.form_inputs,
        "tensors": request_seeds.tensors_inputs,
        "door": request_seeds.door_inputs,
        "envelope": document_seeds.envelope_inputs,
        "documents": document_seeds.documents_inputs,
        "records": document_seeds.records_inputs,
        "receipt": document_seeds.receipt_inputs,
        "answers": document_seeds.answers_inputs,
        "metadata": document_seeds.metadata_inputs,
        "audit": document_seeds.audit_inputs,
        "journal": document_seeds.journal_inputs,
    }
    return made[target]()


def write(target: Target) -> None:
    """Write the valid inputs of a target into its corpus."""
    target.corpus.mkdir(parents=True, exist_ok=True)
    for name, data in of(target.name).items():
        (target.corpus / f"seed-{name.replace(' ', '-')}").write_bytes(data)
