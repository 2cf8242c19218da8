"""Job ``drift``: compares the newest served pictures with the champion's calibration pictures.

Reads   the traffic's database (BUCKLER_TRAFFIC_URL), the champion's release from the registry,
        data/splits/*.csv and, once for each champion, the calibration pictures
Writes  .buckler/watch/drift.json
Keeps   .buckler/watch/drift-reference/<digest>.json: measurements of the calibration pictures

The job fails if a quantity has drifted. With fewer pictures than ``drift.min_records`` it passes and reports that.
"""

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from buckler import params
from buckler.data import manifest, pictures
from buckler.errors import DatabaseError, DataError
from buckler.release.settings import PublishParams
from buckler.serving import release_cache, traffic
from buckler.serving.predictor import Predictor
from buckler.serving.registry import Registry
from buckler.serving.traffic import Traffic, TrafficObservation
from buckler.serving.traffic_mixing import MOMENT_SECONDS, mixed_in_groups
from buckler.serving.version import Version
from buckler.state import files, paths
from buckler.trust.verdict import MODEL_DIR
from buckler.watch import drift_report
from buckler.watch.drift import DriftParams, compare
from buckler.watch.settings import WatchSettings
from buckler.watch.state import write_state
from buckler.watch.table import Finding

SPLITS = Path("data/splits")
REFERENCE_SCHEMA = 2
JOB = "drift"
AHEAD_SECONDS = 300  # by which the clocks of watch and service may differ


def run() -> Finding:
    """Compare as configured in params.yaml, report, and return whether the traffic is unchanged."""
    cfg, names = params.load("drift", DriftParams), params.load("publish", PublishParams)
    registry = Registry(names.model_name)
    champion = registry.champion()
    served = _window(cfg)
    window = [each for each in served if each.digest == champion.digest]
    enough = len(window) >= cfg.min_records
    # As the traffic is stored: mixing changes the shape of a distribution.
    reference = mixed_in_groups(reference_of(champion, registry), cfg.seed) if enough else []
    tests = compare(reference, window, cfg) if enough else ()
    reasons = drift_report.reasons(tests)
    others = len(served) - len(window)
    write_state(
        JOB,
        {
            "schema": 1,
            "finished_at": datetime.now(UTC).isoformat(),
            "model": {"name": names.model_name, "version": champion.version, "digest": champion.digest},
            "passed": not reasons,
            "enough": enough,
            "reasons": reasons,
            "window": _described(window, cfg) | {"of_other_models": others},
            "reference": {"pictures": len(reference)},
            **drift_report.as_state(tests, cfg),
        },
    )
    return Finding(not reasons, _message(champion, len(window), others, enough, reasons))


def _window(cfg: DriftParams) -> list[TrafficObservation]:
    url = WatchSettings.from_env().traffic_url
    if url == traffic.OFF:
        raise DatabaseError(f"no traffic is recorded: {traffic.URL_ENV} is {url!r}", passing=False)
    now = time.time()
    since = now - cfg.window_hours * 3600
    with Traffic(url) as database:
        # Rows of a clock that was ahead would count as the newest ones until their time comes.
        until = now + AHEAD_SECONDS
        return database.window(since=since - since % MOMENT_SECONDS, until=until, limit=cfg.window_records)


def _described(window: list[TrafficObservation], cfg: DriftParams) -> dict[str, Any]:
    moments = [datetime.fromtimestamp(each.moment, UTC).isoformat() for each in (*window[:1], *window[-1:])]
    return {
        "pictures": len(window),
        "min_pictures": cfg.min_records,
        "hours": cfg.window_hours,
        "first": moments[0] if moments else None,
        "last": moments[-1] if moments else None,
    }


def _message(champion: Version, count: int, others: int, enough: bool, reasons: list[str]) -> str:
    result = "; ".join(reasons) or ("passed" if enough else drift_report.TOO_FEW)
    if others:
        # Expected briefly after a promotion; if it persists, the service rejects the champion or is another service.
        result += f"; {others} more were answered by another model than the champion"
    return f"{champion.model} version {champion.version}, {count} pictures: {result}"


# --- the reference


def reference_of(champion: Version, registry: Registry) -> list[TrafficObservation]:
    """Return the service's measurements of the calibration pictures, computed once for each champion.

    Raises:
        DataError: The local pictures differ from those that the champion was trained on.
        RegistryError, RefusedError, ModelError: The release cannot be loaded.
    """
    path = paths.WATCH_DRIFT_REFERENCE / f"{champion.digest.removeprefix('sha256:')}.json"
    known = _read(path)
    if known is None:
        # An expired verdict does not matter: the traffic of that champion is compared as well.
        with release_cache.shared(registry) as cache, cache.opened(champion) as release:
            known = measure(Predictor.of(release.files / MODEL_DIR, release.require()))
        _keep(path, known)
    return known


def measure(predictor: Predictor) -> list[TrafficObservation]:
    """Return the observations of the calibration pictures, as the service would make them.

    Raises:
        DataError: The local pictures differ from those that the model was trained on.
    """
    here = pictures.version(SPLITS)
    if here != predictor.info.data_version:
        raise DataError(
            f"the champion was trained on data {predictor.info.data_version}, {SPLITS} contains {here}; "
            "check out that version (`git checkout`, `dvc checkout`) or promote a model trained on this one"
        )
    found, form = [], predictor.form
    for path in manifest.read(SPLITS / "calibration.csv")["path"]:
        upload = form.modality.receive(Path(path).read_bytes(), form.shape)
        found.append(traffic.observe(upload, predictor(upload.values), form.modality, digest=predictor.digest))
    return found


def _read(path: Path) -> list[TrafficObservation] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != REFERENCE_SCHEMA:
            return None
        return [TrafficObservation(**{**row, "sketch": tuple(row["sketch"])}) for row in document["observations"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # missing, damaged or of another version: measure again


def _keep(path: Path, observations: list[TrafficObservation]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob("*.json"):
        old.unlink()
    rows = [asdict(each) for each in observations]
    files.write(path, json.dumps({"schema": REFERENCE_SCHEMA, "observations": rows}).encode())
