"""What a released model was made of, as a CycloneDX bill of materials that foreign tools read.

The same release gives the same bytes: the file has no time, and its serial number is derived from its content.

Source: https://cyclonedx.org/docs/1.6/json/
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from buckler.measurements.results import Interval, Rate
from buckler.measurements.stated import Measured
from buckler.models.info import ModelInfo
from buckler.release.packages import PROJECT, Package
from buckler.serving import model_card
from buckler.trust.digests import canonical
from buckler.trust.verdict import MODEL_DIR, JudgedModel, Source

FILE = "bom.cdx.json"

VEX = "infra/vex.json"  # in the repository of the code: states which known vulnerabilities of the packages matter

MODEL, DATA, CODE, WEIGHTS = "model", "data", "code", "initial-weights"  # references within the document
_ALGORITHMS = {"sha256": "SHA-256", "md5": "MD5"}

Component = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Provenance:
    """A model and what it was made from.

    Attributes:
        model: Its name and digest.
        files: Path below ``model/`` -> ``sha256:…``.
        source: Commit of the code, and initial weights.
        packages: Python packages of the code.
    """

    model: JudgedModel
    files: Mapping[str, str]
    source: Source
    packages: Sequence[Package]


def bill_of_materials(provenance: Provenance, info: ModelInfo, measured: Measured) -> dict[str, Any]:
    """Return the document about a model with its description and the results of its evaluation."""
    inputs = [_data(info), _code(provenance.source), *_initial_weights(provenance.source, info)]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": _model(provenance, info, measured)},
        "components": [*inputs, *map(_library, provenance.packages)],
        "dependencies": [
            {"ref": MODEL, "dependsOn": [each["bom-ref"] for each in inputs]},
            *_needs(provenance.packages),
        ],
    }
    return {**document, "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, canonical(document).decode()).urn}


def _model(provenance: Provenance, info: ModelInfo, measured: Measured) -> Component:
    return {
        "type": "machine-learning-model",
        "bom-ref": MODEL,
        "name": provenance.model.name,
        "version": provenance.model.digest,
        "components": [
            {"type": "file", "name": f"{MODEL_DIR}/{path}", "hashes": [_hash(found)]}
            for path, found in provenance.files.items()
        ],
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": f"classification: {', '.join(info.labels)}",
                "modelArchitecture": info.architecture,
                "datasets": [{"ref": DATA}],
            },
            "quantitativeAnalysis": {"performanceMetrics": list(_metrics(measured))},
            "considerations": {
                "useCases": [model_card.intended_use(provenance.model.intended_use, info)],
                "technicalLimitations": model_card.limits(info, measured),
            },
        },
        "properties": [
            {"name": "buckler:defence", "value": info.defence},
            {"name": "buckler:restoration", "value": info.restore},
        ],
    }


def _metrics(measured: Measured) -> Iterator[dict[str, Any]]:
    """Yield the results: on all pictures, then in the slices under the worst case and under each attack."""
    yield from _rate("accuracy", measured.clean_accuracy)
    yield from _rate("balanced_accuracy", measured.balanced_accuracy)
    yield from _rate("malignant_recall", measured.malignant_recall)
    if measured.roc_auc is not None:
        yield {"type": "roc_auc", "value": str(measured.roc_auc), **_interval(measured.roc_auc_interval)}
    if measured.calibration_error is not None:
        yield {"type": "calibration_error", "value": str(measured.calibration_error)}
    if measured.decisions:
        yield from _rate("accepted_misses", measured.decisions.with_limit.accepted_misses)
        yield from _rate("reviews", measured.decisions.with_limit.reviews)
    if measured.detector:
        yield from _rate("detector_false_positive_rate", measured.detector.clean_fpr)
    for row in measured.worst_case:
        under = f"worst case of all attacks, at most {row.radius}"
        yield from _rate("robust_accuracy", row.robust_accuracy, under)
        yield from _rate("sensitivity", row.sensitivity, under)
        yield from _rate("specificity", row.specificity, under)
    for cell in measured.attacks:
        yield from _rate("robust_accuracy", cell.robust_accuracy, f"{cell.name}, {cell.radius}")


def _rate(name: str, rate: Rate | None, under: str | None = None) -> Iterator[dict[str, Any]]:
    if rate:
        part = {"slice": under} if under else {}
        yield {"type": name, "value": str(rate.value), **part, **_interval(rate.interval)}


def _interval(found: Interval | None) -> dict[str, Any]:
    return {"confidenceInterval": {"lowerBound": str(found[0]), "upperBound": str(found[1])}} if found else {}


def _data(info: ModelInfo) -> Component:
    return {
        "type": "data",
        "bom-ref": DATA,
        "name": "pictures of training and evaluation",
        "version": info.data_version,
        "data": [{"type": "dataset", "name": "splits for training, validation, calibration and test"}],
    }


def _code(source: Source) -> Component:
    commit = source.commit or "not in git"
    # By path, not by digest: the statements change after the release, its bytes do not.
    vex = {"type": "exploitability-statement", "url": VEX, "comment": "names the packages by the same purl"}
    code: Component = {"type": "application", "bom-ref": CODE, "name": PROJECT, "version": commit}
    code["externalReferences"] = [vex]
    if source.commit:
        notes = "with uncommitted changes" if source.dirty else "without uncommitted changes"
        code["pedigree"] = {"commits": [{"uid": source.commit}], "notes": notes}
    return code


def _initial_weights(source: Source, info: ModelInfo) -> Iterator[Component]:
    """Yield what training started from, or the network itself; nothing if it was random or is not known."""
    algorithm, _, _ = (source.initial_weights or "").partition(":")
    if source.initial_weights and algorithm in _ALGORITHMS:
        yield {
            "type": "machine-learning-model",
            "bom-ref": WEIGHTS,
            "name": "network that was taken from a file"
            if info.architecture == "file"
            else "weights that training started from",
            "version": source.initial_weights,
            "hashes": [_hash(source.initial_weights)],
        }


def _library(package: Package) -> Component:
    found: Component = {
        "type": "library",
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
    }
    if package.hashes:  # of its wheels and its source archive, one of which was installed
        hashes = [_hash(each) for each in package.hashes]
        found["externalReferences"] = [{"type": "distribution", "url": package.purl, "hashes": hashes}]
    return found


def _needs(packages: Sequence[Package]) -> Iterator[dict[str, Any]]:
    """Yield what each package needs, as far as the lock says who needs it."""
    references = {PROJECT: CODE} | {package.name: package.purl for package in packages}
    for name, reference in references.items():
        needed = [package.purl for package in packages if name in package.needed_by]
        if needed:
            yield {"ref": reference, "dependsOn": needed}


def _hash(digest: str) -> dict[str, str]:
    algorithm, _, content = digest.partition(":")
    return {"alg": _ALGORITHMS[algorithm], "content": content}
