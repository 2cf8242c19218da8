"""Where the detector draws its line: on clean calibration pictures alone, never on attacked ones."""

import math

import numpy as np
import numpy.typing as npt


def threshold_at(scores: npt.NDArray[np.float64], max_fpr: float) -> float:
    """Return the threshold above which at most ``max_fpr`` of future clean pictures are expected to score.

    Args:
        scores: Of clean calibration pictures, ``(n,)``; higher is more suspicious.
        max_fpr: Share in 0..1.

    Raises:
        ValueError: Too few scores to tell so small a share.

    Source: the split-conformal quantile, Vovk, Gammerman & Shafer, "Algorithmic learning in a random world".
    """
    rank = math.ceil((len(scores) + 1) * (1 - max_fpr))
    if rank > len(scores):
        needed = math.ceil(1 / max_fpr) - 1
        raise ValueError(
            f"{len(scores)} clean scores cannot resolve max_fpr={max_fpr}; need at least {needed} "
            "(raise split.calibration or calibrate.max_fpr)"
        )
    return float(np.sort(scores)[rank - 1])
