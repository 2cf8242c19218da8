"""Stage ``weights``: identifies the weights that training starts from, or a network from a file, by their digest.

Reads   the files that train.weights or train.network, and data.restore, of params.yaml name, if they do
Writes  data/weights.json   source, digest and size

It always runs, because DVC cannot depend on a file that only some values of a parameter name. The stages that load the
weights depend on what it writes.
"""

from dataclasses import replace
from pathlib import Path

from buckler import params
from buckler.models import initial
from pipelines.settings import DataParams, TrainParams
from pipelines.stage import stage

WEIGHTS = Path("data/weights.json")


def run(cfg: TrainParams, data: DataParams) -> None:
    """Write the identity of the weights that ``cfg`` names, and of those of the restoration step of ``data``.

    Raises:
        ModelError: There are no such weights.
    """
    found = initial.identify(cfg.weights, cfg.network)
    initial.save(replace(found, denoiser=initial.denoiser_of(data.restore)), WEIGHTS)


def main() -> None:
    """Run the stage on params.yaml."""
    run(params.load("train", TrainParams), params.load("data", DataParams))


if __name__ == "__main__":
    stage(main)
