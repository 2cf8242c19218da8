import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import buckler
from buckler.attacks.iterative import BIM, PGD
from buckler.evaluation.journal import Journal, code_digest
from tests.unit.interrupted import SUITE, Scored, run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
ABOUT = {"model": "linear"}
ARRAYS = {"logits": np.array([[0.1, np.pi]], np.float32), "seconds": np.array([1.5])}
NEVER = 10**9


def files(root):
    return sorted(root.rglob("[!.]*.npz"))  # a killed writer leaves a hidden file that nothing reads


def same(a, b):
    assert [(o.spec, o.radius) for o in a] == [(o.spec, o.radius) for o in b]
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)
        np.testing.assert_array_equal(one.features, other.features)


# The suite's gradients: 12 for FGSM; 4 pictures, 3 steps and 2 radii a chunk for PGD.
ENDS = {"while it crafts": (12 + 24 + 9, NEVER), "while it writes the journal": (NEVER, 5)}


@pytest.fixture(scope="module")
def killed(module_tmp_path):
    """The directories of evaluations that were killed, by when."""
    directories = {when: module_tmp_path / when for when in ENDS}
    child = subprocess.run(
        [sys.executable, "-m", "tests.unit.interrupted"]
        + [str(each) for when, end in ENDS.items() for each in (directories[when], *end)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert child.stdout.split() == [str(-signal.SIGKILL.value)] * len(ENDS), child.stderr
    return directories


@pytest.mark.parametrize(
    ("when", "finished", "saved"),
    [("while it crafts", 4, 12 + 24), ("while it writes the journal", 5, 12 + 48)],
    ids=ENDS,
)
def test_a_killed_evaluation_resumes_with_identical_results(killed, when, finished, saved):
    directory = killed[when]
    assert len(files(directory)) == finished

    whole, rest = Scored(3), Scored(3)
    uninterrupted = run(whole)
    steps = []
    resumed = run(rest, Journal(directory, ABOUT), progress=steps.append)
    same(resumed, uninterrupted)
    assert rest.passes == whole.passes - saved
    # The bar counts loaded pictures as done.
    assert sum(step.done for step in steps) == 12 * 6
    assert steps[0].cell == "fgsm@1/255"

    third = Scored(3)
    same(run(third, Journal(directory, ABOUT)), uninterrupted)
    assert third.passes == 0


def test_stored_arrays_are_loaded_bit_for_bit_by_their_key_alone(tmp_path):
    Journal(tmp_path, ABOUT).store({"line": 1}, ARRAYS)
    found = Journal(tmp_path, ABOUT).load({"line": 1})
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert Journal(tmp_path, ABOUT).load({"line": 2}) is None
    assert Journal(tmp_path, {"model": "another"}).load({"line": 1}) is None


def cut(content):
    return content[: len(content) // 2]


def flip(content):
    return content[:-40] + bytes([content[-40] ^ 1]) + content[-39:]


@pytest.mark.parametrize("damage", [cut, flip, lambda content: b"", lambda content: b"\0" * len(content)])
def test_a_damaged_entry_is_computed_again(tmp_path, damage):
    whole = run(Scored(3), Journal(tmp_path, ABOUT))
    before = files(tmp_path)
    for file in before[:2]:
        file.write_bytes(damage(file.read_bytes()))
    again = Scored(3)
    same(run(again, Journal(tmp_path, ABOUT)), whole)
    assert again.passes > 0
    assert files(tmp_path) == before
    last = Scored(3)
    run(last, Journal(tmp_path, ABOUT))
    assert last.passes == 0


@pytest.mark.parametrize(
    "change",
    [
        {"radii": (1, 5)},
        {"attack": PGD(steps=4, early_exit=False)},
        {"attack": PGD(steps=3, restarts=2, early_exit=False)},
        {"attack": PGD(steps=3, early_exit=True)},
        {"attack": BIM(steps=3, early_exit=False)},
        {"only_survivors": True},
    ],
    ids=["radius", "steps", "restarts", "early_exit", "attack", "only_survivors"],
)
def test_another_parameter_never_loads_old_answers(tmp_path, change):
    run(Scored(3), Journal(tmp_path, ABOUT))
    line = replace(SUITE[1], **change)
    fresh, resumed = Scored(3), Scored(3)
    same(run(resumed, Journal(tmp_path, ABOUT), suite=[line]), run(fresh, suite=[line]))
    assert resumed.passes == fresh.passes > 0


def test_another_seed_never_loads_old_answers(tmp_path):
    run(Scored(3), Journal(tmp_path, ABOUT))
    resumed, fresh = Scored(3), Scored(3)
    same(run(resumed, Journal(tmp_path, ABOUT), seed=8), run(fresh, seed=8))
    assert resumed.passes == fresh.passes


def test_a_line_with_other_survivors_makes_later_lines_attack_again(tmp_path):
    run(Scored(3), Journal(tmp_path, ABOUT))
    suite = [replace(SUITE[0], radii=(8,)), *SUITE[1:]]
    same(run(Scored(3), Journal(tmp_path, ABOUT), suite=suite), run(Scored(3), suite=suite))


def test_a_new_line_in_the_suite_keeps_the_results_of_the_others(tmp_path):
    run(Scored(3), Journal(tmp_path, ABOUT), suite=SUITE[:1])
    more, alone = Scored(3), Scored(3)
    run(more, Journal(tmp_path, ABOUT), suite=SUITE[:2])
    run(alone, suite=SUITE[1:2])
    assert more.passes == alone.passes


def test_a_change_of_the_attacks_code_is_another_evaluation(tmp_path):
    package = shutil.copytree(Path(buckler.__file__).parent, tmp_path / "buckler")
    assert code_digest(package) == code_digest()
    (package / "evaluation/plots.py").write_text("# other colours\n")
    assert code_digest(package) == code_digest()
    deciding = ("attacks/fab.py", "compute/machine.py", "models/networks/vgg.py", "evaluation/crafter_and_scorer.py")
    for file in (*deciding, "evaluation/suite.py"):
        path, source = package / file, (package / file).read_text()
        path.write_text(source + "\n# changed\n")
        assert code_digest(package) != code_digest(), file
        path.write_text(source)


def test_answers_of_another_processor_or_library_are_never_loaded(tmp_path, monkeypatch):
    Journal(tmp_path, ABOUT).store({"line": 1}, ARRAYS)
    with monkeypatch.context() as patch:
        patch.setattr("buckler.evaluation.journal.instruction_set", lambda: "another")
        assert Journal(tmp_path, ABOUT).load({"line": 1}) is None
    with monkeypatch.context() as patch:
        patch.setattr("buckler.evaluation.journal.version", lambda name: f"{name} 99")
        assert Journal(tmp_path, ABOUT).load({"line": 1}) is None
    assert Journal(tmp_path, ABOUT).load({"line": 1}) is not None


def test_a_finished_evaluation_is_kept_for_the_next_one(tmp_path):
    first = Journal(tmp_path, ABOUT)
    first.store({"line": 1}, ARRAYS)
    first.finish()
    assert Journal(tmp_path, ABOUT).load({"line": 1}) is not None


def test_a_forgotten_evaluation_is_computed_again_and_others_stay(tmp_path):
    forgotten, other = (Journal(tmp_path, {"model": name}) for name in ("a", "b"))
    for journal in (forgotten, other):
        journal.store({"line": 1}, ARRAYS)
    forgotten.forget()
    assert forgotten.load({"line": 1}) is None
    assert other.load({"line": 1}) is not None


def test_beyond_the_limit_the_parts_unused_for_longest_are_deleted(tmp_path, monkeypatch):
    journals = [Journal(tmp_path, {"model": name}) for name in ("oldest", "old", "new")]
    for age, journal in zip((300, 200, 100), journals, strict=True):
        before = set(files(tmp_path))
        journal.store({"line": 1}, ARRAYS)
        (part,) = set(files(tmp_path)) - before
        os.utime(part, (time.time() - age,) * 2)
    journals[0].load({"line": 1})  # a used part is new again
    size = files(tmp_path)[0].stat().st_size
    monkeypatch.setattr("buckler.evaluation.journal.LARGEST_BYTES", 2 * size)
    journals[2].finish()
    assert [journal.load({"line": 1}) is not None for journal in journals] == [True, False, True]
    assert len(list(tmp_path.iterdir())) == 2
