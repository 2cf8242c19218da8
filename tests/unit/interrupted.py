"""A suite over a classifier of a few numbers, and a way to run it that ends in SIGKILL where one wants it."""

import os
import signal
import sys
from pathlib import Path

import numpy as np

from buckler.attacks.autopgd import APGDMargin
from buckler.attacks.gradient import FGSM
from buckler.attacks.iterative import PGD
from buckler.evaluation.journal import Journal
from buckler.evaluation.suite import AttackSpec, run_suite
from buckler.models.forward import Forward
from tests.unit.linear import Linear

CHUNK, COUNT = 4, 12
SUITE = (
    AttackSpec(FGSM(), (1, 4)),
    AttackSpec(PGD(steps=3, early_exit=False), (1, 4)),
    AttackSpec(APGDMargin(steps=3, early_exit=False), (4, 8), only_survivors=True),
)


class Scored(Linear):
    """The linear classifier as a scorer, whose features are the first pixels."""

    def forward(self, images):
        return Forward(self.logits(images), images.reshape(len(images), -1)[:, :5])


class Doomed(Scored):
    """Kills its process after so many gradients."""

    def __init__(self, *args, lives, **kwargs):
        super().__init__(*args, **kwargs)
        self.lives = lives

    def loss_gradient(self, images, labels, loss="cross_entropy"):
        if self.passes + len(images) > self.lives:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss_gradient(images, labels, loss)


def pictures(model, count=COUNT):
    """Return 8-bit noise and labels of which one in six is not the model's."""
    images = np.random.default_rng(5).integers(0, 256, (count, 6, 6, 3)).astype(np.float32) / 255
    guesses = model.logits(images).argmax(axis=1)
    return images, np.where(np.arange(count) % 6 == 5, (guesses + 1) % 3, guesses)


def run(model, journal=None, suite=SUITE, seed=7, **tuning):
    images, labels = pictures(Linear(3))
    return run_suite(model, model, images, labels, suite, seed=seed, chunk=CHUNK, journal=journal, **tuning)


def die(root, lives, writes):
    """Run the suite, and kill this process after so many gradients or so many written files."""
    rename, renamed = Path.replace, []

    def replace(path, target):
        renamed.append(target)
        if len(renamed) > writes:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(path, target)

    Path.replace = replace
    run(Doomed(3, lives=lives), Journal(root, {"model": "linear"}))


def main():
    """Let a process of its own die for each directory, gradients and files given; write their exit codes."""
    for root, lives, writes in zip(*(sys.argv[first::3] for first in (1, 2, 3)), strict=True):
        child = os.fork()  # the imports take seconds
        if not child:
            die(Path(root), int(lives), int(writes))
            os._exit(0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()  # or the next child has it, too


if __name__ == "__main__":
    main()
