"""``buckler check``: tells whether a folder of pictures will do, before any stage runs.

Reads   params.yaml, the folder and the pictures that the stage ``ingest`` would copy from it
Writes  nothing

The same code as in the stages `ingest`, `validate` and `split` reads, judges and divides the pictures.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from buckler import params
from buckler.cli.check import add_arguments
from buckler.cli.profile import settings_of
from buckler.data import collection, inventory, manifest, sources, splits, survey
from buckler.data.collection import Collection
from buckler.errors import DataError, UnusableInputError
from buckler.evaluation import subgroups
from buckler.modality.base import Modality, Pair
from buckler.release import data_floors
from buckler.release.remedies import Division, Shortage, shortage
from buckler.release.requirements import Counts, Demands
from buckler.reporting import folder_check
from buckler.reporting.folder_check import ClassRow, Duration, FolderCheck, NeedRow
from buckler.state import exits
from pipelines import duration, ingest, preflight, validate
from pipelines.preflight import RunParams
from pipelines.split import demands_of


@dataclass(frozen=True, slots=True)
class Pictures:
    """What the stage ``ingest`` would copy, read once.

    Attributes:
        frame: The manifest.
        faults: Id -> why the file does not decode.
        appearances: Id -> what near-duplicates are recognised by, of the decodable ones.
        seconds: To decode a picture, on average.
    """

    frame: pd.DataFrame
    faults: dict[str, UnusableInputError]
    appearances: dict[str, Any]
    seconds: float

    def divided(self, kept: pd.DataFrame, cfg: RunParams) -> tuple[Division, list[Pair]]:
        """Return ``kept`` of these pictures as the stage ``split`` would divide them, and the near-duplicates.

        Raises:
            DataError: No picture is kept.
        """
        if not len(kept):
            raise DataError("expected usable pictures, there is none")
        kept = kept.reset_index(drop=True)
        shares = {"test": cfg.split.test, "calibration": cfg.split.calibration}
        pairs = cfg.data.form.modality.near_duplicates(
            [self.appearances[name] for name in kept["id"]],
            max_bits=cfg.split.near_duplicate_bits,
            min_correlation=cfg.split.near_duplicate_correlation,
        )
        return Division(kept, splits.group(kept, pairs), shares, cfg.split.seed), pairs


def read(items: Sequence[sources.Item], modality: Modality) -> Pictures:
    """Read and decode ``items``; a progress bar shows how far it is."""
    rows, faults, appearances, began = [], {}, {}, time.perf_counter()
    for item in tqdm(items, desc="decode", unit=modality.one, disable=None):
        content = item.read()
        rows.append(ingest.row_of(item, content, Path(item.id), "directory", modality))
        try:
            modality.inspect(content)
            appearances[item.id] = modality.appearance(content)
        except UnusableInputError as error:
            faults[item.id] = error
    return Pictures(manifest.build(rows), faults, appearances, (time.perf_counter() - began) / len(items))


def run(folder: Path, profile: str | None, overrides: dict[str, Any], *, timed: bool) -> FolderCheck:
    """Check ``folder`` with the values of params.yaml, changed by ``profile`` and ``overrides``.

    Args:
        folder: Folder of pictures.
        profile: Name of a profile; None takes the values as they are.
        overrides: Further values, by key.
        timed: Whether to measure the network, to estimate how long a run will take.

    Raises:
        ParamsError: There is no such profile or key, or a value is invalid.
    """
    cfg = _settings(folder, profile, overrides)
    words = f"profile {profile}" if profile else "the values in params.yaml"
    try:
        contents = collection.read(folder, cfg.data.layout)
    except DataError as error:
        return FolderCheck(str(folder), words, refusals=(str(error),))
    files = contents.files
    found = read(contents.items(per_class=cfg.data.per_class, seed=cfg.data.seed), cfg.data.form.modality)
    required = cfg.data.required(manifest.labels(found.frame))
    validated = validate.judge(found.frame, found.faults, cfg.validate, required, cfg.data.form.modality)
    demands = _demands(cfg)
    refusals = [
        *preflight.contradictions(cfg),
        *_folder_refusals(contents, cfg),
        *_validation_refusals(validated, cfg),
        *_subgroup_refusals(found, cfg),
    ]
    result = FolderCheck(
        str(folder),
        words,
        refusals=tuple(refusals),
        found=inventory.line(contents, found.frame["id"].tolist(), sorted(found.faults)),
        notes=tuple(_notes(contents, validated, cfg)),
        classes=tuple(_classes(files, found, validated.kept, {})),
        unusable=tuple(survey.unusable(found.faults)),
        metadata=contents.table.found if contents.table else None,
    )
    try:
        division, pairs = found.divided(validated.kept, cfg)
        counts = demands.counts(division.frame, division.assigned())
    except DataError as error:
        return replace(result, refusals=(*refusals, str(error)))
    available = min(map(len, files.values()))
    short = shortage(demands, division, counts, cfg.data.per_class, available=available) or Shortage((), ())
    return replace(
        result,
        refusals=(*refusals, *short.missing),
        notes=(*result.notes, *_small_subgroups(counts, cfg)),
        classes=tuple(_classes(files, found, validated.kept, counts)),
        related=survey.related(division.frame, pairs, division.groups),
        needs=tuple(_needs(demands, division.labels, counts)),
        remedies=short.remedies,
        profiles=tuple(_other_profiles(contents, profile, found, validated.kept)) if short.missing else (),
        duration=_duration(cfg, counts, found.seconds) if timed and not refusals else None,
    )


def _settings(folder: Path, profile: str | None, overrides: dict[str, Any]) -> RunParams:
    source = {"data.source": "directory", "data.path": str(folder)}
    return preflight.parse(params.with_profile(profile, {**overrides, **source}))


def _demands(cfg: RunParams) -> Demands:
    return demands_of(
        cfg.data,
        cfg.calibrate,
        cfg.gate,
        attacked=cfg.attack.records,
        seed=cfg.attack.seed,
        max_imbalance=cfg.validate.max_imbalance,
    )


def _folder_refusals(contents: Collection, cfg: RunParams) -> Iterator[str]:
    try:
        contents.check(dangerous=cfg.data.malignant, max_unmatched=cfg.data.max_unmatched)
    except DataError as error:
        yield str(error)


def _validation_refusals(found: validate.Validated, cfg: RunParams) -> Iterator[str]:
    # The least number of records of a class is one of the needs.
    policy = replace(cfg.gate, min_class_records=1)
    critical = validate.lines(found.outcome.violated("critical"))
    yield from critical
    failures = [line.removeprefix("data: ") for line in data_floors.failures(found.report, policy)]
    yield from (f"the gate would fail: {line}" for line in failures if line not in critical)


def _subgroup_refusals(found: Pictures, cfg: RunParams) -> Iterator[str]:
    try:
        subgroups.groups({str(name): list(map(str, found.frame[name])) for name in found.frame}, cfg.attack.subgroups)
    except DataError as error:
        yield str(error)


def _notes(contents: Collection, found: validate.Validated, cfg: RunParams) -> Iterator[str]:
    if not contents.layout.classes:
        yield from survey.hints(contents.files)
    yield from data_floors.allowed(found.report, cfg.gate)


def _small_subgroups(counts: Counts, cfg: RunParams) -> Iterator[str]:
    least = cfg.gate.min_subgroup_records
    small = [f"{label} ({count})" for label, count in counts["attacked"].items() if count < least]
    if small:
        few = f"fewer than gate.min_subgroup_records {least} test pictures"
        yield f"classes with {few} are not judged as subgroups: {', '.join(small)}"


def _classes(
    files: Mapping[str, Sequence[str]], found: Pictures, kept: pd.DataFrame, counts: Counts
) -> Iterator[ClassRow]:
    for label, ids in files.items():
        taken, usable = (int((frame["label"] == label).sum()) for frame in (found.frame, kept))
        parts = (counts.get(part, {}).get(label, 0) for part in ("train", "calibration", "test"))
        yield ClassRow(label, len(ids), taken, usable, *parts)


def _needs(demands: Demands, labels: Sequence[str], counts: Counts) -> Iterator[NeedRow]:
    for need in demands.needs(labels):
        yield NeedRow(need.count, need.seen(counts), need.what)


def _other_profiles(contents: Collection, profile: str | None, found: Pictures, kept: pd.DataFrame) -> Iterator[str]:
    """Yield the profiles whose needs are met by those of the pictures read that they would take."""
    for name in params.read()["profiles"]:
        cfg = _settings(contents.folder.root, name, {})
        if cfg.data.layout != contents.layout:
            continue  # other classes or groups than those of the pictures read
        items = contents.items(per_class=cfg.data.per_class, seed=cfg.data.seed)
        taken = kept[kept["id"].isin([item.id for item in items])]
        labels = manifest.labels(taken)
        if name != profile and set(cfg.data.required(labels)) <= set(labels) and _enough(found, taken, cfg):
            yield name


def _enough(found: Pictures, taken: pd.DataFrame, cfg: RunParams) -> bool:
    demands = _demands(cfg)
    try:
        division, _ = found.divided(taken, cfg)
        counts = demands.counts(division.frame, division.assigned())
    except DataError:
        return False
    return all(need.met(counts) for need in demands.needs(division.labels))


def _duration(cfg: RunParams, counts: Counts, decode_seconds: float) -> Duration:
    sizes = {part: sum(labels.values()) for part, labels in counts.items()}
    return duration.estimate(cfg, sizes, classes=len(counts["all"]), decode_seconds=decode_seconds)


def main() -> int:
    """Check the folder that the arguments name, print the result and return the exit code."""
    return exits.run(_check, failed=2)


def _check() -> int:
    exits.raise_at_interrupt()
    parser = argparse.ArgumentParser(prog="buckler check")
    add_arguments(parser)
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        raise DataError(f"expected a folder of pictures, got {arguments.folder}, which is no folder")
    timed = not arguments.no_time
    found = run(arguments.folder.resolve(), arguments.profile, settings_of(arguments), timed=timed)
    text = json.dumps(asdict(found) | {"fits": found.fits}, indent=2) + "\n" if arguments.json else ""
    print(text or folder_check.text(found), end="")
    return int(not found.fits)


if __name__ == "__main__":
    sys.exit(main())
