"""The committed inputs of all fuzz targets, without a fuzzer; and targets with broken parsers, which must be found."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from h11._receivebuffer import ReceiveBuffer

from buckler.trust.public_keys import PublicKeys
from services.classifier.interfaces.tensors import RequestInput
from tests.fuzz import engine, replay, results, seeds
from tests.fuzz.table import CORPUS, TARGETS, Target
from tests.fuzz.worker import Measured

ROOT = Path(__file__).parents[2]
LARGEST_CORPUS = 300_000  # bytes of all inputs together
ALL_TARGETS = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@ALL_TARGETS
def test_every_input_of_the_corpus_meets_the_contract(target: Target):
    files = replay.inputs(target.corpus)
    assert len(files) >= len(seeds.of(target.name)), "run `python -m tests.fuzz all --seeds`"
    command = [sys.executable, "-m", "tests.fuzz", target.name, str(target.corpus)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"{len(files)} inputs, 0 findings"), done.stdout


@ALL_TARGETS
def test_a_target_accepts_some_valid_inputs(target: Target):
    """Behind a target that refuses everything nothing would be fuzzed."""
    run = target.load()
    accepted = [run(data) for data in seeds.of(target.name).values()]
    assert any(accepted)


def test_the_corpus_is_small_and_each_folder_belongs_to_a_target():
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent for path in files} == {target.corpus for target in TARGETS.values()}
    assert sum(path.stat().st_size for path in files) < LARGEST_CORPUS


# --- the targets and the harness find broken parsers


def pixels_of_another_shape(*_: object, **__: object) -> np.ndarray:
    return np.zeros((9, 9, 3), np.float32)


def any_signature(_: object, keys: PublicKeys, __: object) -> tuple[str, ...]:
    return keys.ids


def any_value(tensor: RequestInput, _: object) -> np.ndarray:
    return np.full(tensor.shape, 7, np.float32)


@pytest.mark.parametrize(
    ("target", "part", "broken", "problem"),
    [
        ("heads", "tests.fuzz.heads.StrictBuffer", ReceiveBuffer, "a bare line feed was accepted"),
        ("envelope", "buckler.trust.envelope._signers", any_signature, "InvalidSignature"),
        ("png", "buckler.modality.picture.images.as_pixels", pixels_of_another_shape, "got ((9, 9, 3)"),
        ("tensors", "services.classifier.interfaces.tensors._pixels", any_value, "pixels outside 0..1"),
    ],
)
def test_the_corpus_finds_a_broken_parser(
    monkeypatch: pytest.MonkeyPatch, target: str, part: str, broken: object, problem: str
):
    monkeypatch.setattr(part, broken)
    found = list(replay.replay(TARGETS[target], replay.inputs(TARGETS[target].corpus)))
    assert any(problem in str(finding) for finding in found)


BAD = b"\xff"


def raises(data: bytes) -> bool:
    if data == BAD:
        raise KeyError("undocumented")
    return True


def slow(data: bytes) -> bool:
    return data == BAD and sum(range(50_000_000)) > 0


def large(data: bytes) -> bool:
    return data == BAD and len(bytearray(b"x") * 100_000_000) > 0


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module with broken targets, where the table looks for it."""
    module = ModuleType("tests.fuzz.broken")
    vars(module).update(raises=raises, slow=slow, large=large)
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize(
    ("name", "limits", "problem"),
    [
        ("raises", {}, "KeyError: 'undocumented'"),
        ("slow", {"max_seconds": 0.1}, "expected at most 0.1 s"),
        ("large", {"max_mebibytes": 40}, "expected at most 40 MiB"),
    ],
)
def test_a_parser_that_breaks_its_contract_is_found(
    broken: None, tmp_path: Path, name: str, limits: dict, problem: str
):
    for file, content in (("good", b"good"), ("bad", BAD)):
        (tmp_path / file).write_bytes(content)
    (found,) = replay.replay(Target(name, "broken", **limits), replay.inputs(tmp_path))
    assert (found.target, found.path) == (name, tmp_path / "bad")
    assert problem in str(found)
    assert str(found).endswith(f"python -m tests.fuzz {name} {tmp_path}/bad")


# --- the fuzzer


@pytest.mark.parametrize(
    ("run", "error"), [(raises, KeyError), (slow, TimeoutError), (large, MemoryError)], ids=["raises", "slow", "large"]
)
def test_a_fuzzer_ends_at_an_input_that_breaks_the_contract(run: Callable[[bytes], bool], error: type[Exception]):
    seconds = 0.1 if run is slow else 60
    measured = Measured(Target("broken", "broken", max_seconds=seconds, max_mebibytes=40), run)
    measured(b"good")
    with pytest.raises(error):
        measured(BAD)


@pytest.mark.slow
def test_a_fuzzer_runs_and_reports_what_it_reached(tmp_path: Path):
    found = engine.fuzz(TARGETS["receipt"], 3, corpus=tmp_path)
    assert found.findings == ()
    assert found.executions > 0
    assert 0 < found.edges <= found.features
    (row,) = results.document([found], 3, seed=1).tables["targets"].rows
    assert (row["target"], row["executions"], row["findings"]) == ("receipt", found.executions, 0)
