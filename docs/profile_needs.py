"""The table of the pictures that each profile needs, for docs/how-to/own-pictures.md; see `docs.generate`."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

from buckler import params
from buckler.release.requirements import Need
from pipelines import preflight
from pipelines.preflight import RunParams
from pipelines.split import demands_of

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/how-to/own-pictures.md"
_MARKER = re.compile(r"(<!-- profile needs -->\n).*?(<!-- end -->)", re.DOTALL)
_OTHER = "other"  # stands for all classes that are not in data.malignant
_SPLITS = {"test": "test", "attacked": "test", "calibration": "calibration"}


def fill(page: str) -> str:
    """Return ``page`` with the table between its markers."""
    table = "\n".join(_lines())
    return _MARKER.sub(lambda match: f"{match[1]}\n{table}\n\n{match[2]}", page)


def _lines() -> Iterator[str]:
    yield "| profile | `data.malignant` | pictures of these classes, together | of the others, together | decided by |"
    yield "|---|---|---|---|---|"
    for name in params.read(ROOT / "params.yaml")["profiles"]:
        cfg = preflight.parse(params.with_profile(name, {}, ROOT / "params.yaml"))
        dangerous, others, reason = least(cfg)
        yield f"| `{name}` | {', '.join(cfg.data.malignant)} | {dangerous:,} | {others:,} | {reason} |"


def least(cfg: RunParams) -> tuple[int, int, str]:
    """Return the least pictures of dangerous and of other classes, and the settings that decide the former."""
    demands = demands_of(cfg.data, cfg.calibrate, cfg.gate, attacked=cfg.attack.records, seed=cfg.attack.seed)
    needs = demands.needs([*cfg.data.malignant, _OTHER])
    dangerous = max((need for need in needs if _OTHER not in need.labels), key=lambda need: _total(need, cfg))
    of_dangerous = _total(dangerous, cfg)
    of_others = max(_total(need, cfg) for need in needs if need.labels == (_OTHER,))
    of_all = max(_total(need, cfg) for need in needs if _OTHER in need.labels)
    # The classes may differ in size by a factor of validate.max_imbalance, or the gate fails.
    balanced = math.ceil(of_dangerous / len(cfg.data.malignant) / cfg.validate.max_imbalance)
    return of_dangerous, max(of_others, of_all - of_dangerous, balanced), dangerous.reason


def _total(need: Need, cfg: RunParams) -> int:
    """Return how many pictures of its classes the source must have for ``need`` at the shares of ``cfg``."""
    share = {"test": cfg.split.test, "calibration": cfg.split.calibration}
    return math.ceil(need.count / share[_SPLITS[need.part]]) if need.part in _SPLITS else need.count
