"""Stage ``weights``: identifies the weights that training starts from, or a network from a file, by their digest.

Reads   the file that train.weights or train.network of params.yaml names, if one does
Writes  data/weights.json   source, digest and size

It always runs, because DVC cannot depend on a file that only some values of a parameter name. The stages that load the
weights depend on what it writes.
"""

from pathlib import Path

from buckler import params
from buckler.models import initial
from pipelines.settings import TrainParams
from pipelines.stage import stage

WEIGHTS = Path("data/weights.json")


def run(cfg: TrainParams) -> None:
    """Write the identity of the weights that ``cfg`` names.

    Raises:
        ModelError: There are no such weights.
    """
    initial.save(initial.identify(cfg.weights, cfg.network), WEIGHTS)


def main() -> None:
    """Run the stage on params.yaml."""
    run(params.load("train", TrainParams))


if __name__ == "__main__":
    stage(main)
