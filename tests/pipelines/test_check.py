"""``buckler check`` on real folders: the same words as the stages, and an exit code."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
from contextlib import suppress
from functools import partial

import pytest
from PIL import Image

from buckler import params
from buckler.errors import ParamsError
from buckler.state import exits
from pipelines import check, duration, preflight
from pipelines.stage import ROOT
from tests import datasets

# Few pictures are enough, and a small network: as in the tests of the stages, by settings.
FREE = {
    "train.network": "tiny",
    "data.image_size": 32,
    "validate.min_per_class": 1,
    "calibrate.max_fpr": 0.5,
    "calibrate.min_sensitivity": 0.5,
    "gate.min_clean_accuracy": 0.0,
    "gate.min_robust_accuracy": {"1/255": 0.0},
    "gate.min_malignant_recall": 0.0,
    "gate.max_accepted_misses": 1.0,
    "gate.min_robust_sensitivity": {},
    "gate.min_robust_specificity": {},
    "gate.min_class_records": 1,
}
OPTIONS = [f"--set={key}={json.dumps(value)}" for key, value in FREE.items() if not isinstance(value, dict)]
OPTIONS += ["--set=gate.min_robust_accuracy={1/255: 0.0}", "--set=gate.min_robust_sensitivity={}"]
OPTIONS += ["--set=gate.min_robust_specificity={}"]


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def folder(tmp_path):
    return datasets.make_folder(tmp_path / "pictures", per_class=30)


def checked(folder, profile=None, **settings):
    return check.run(folder, profile, FREE | settings, timed=False)


def command(*arguments, **options):
    program = [sys.executable, "-m", "buckler.cli", "check", *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, timeout=400, **options)


def test_a_folder_that_has_enough_will_do_and_nothing_is_written(folder):
    before = sorted(folder.rglob("*"))
    found = checked(folder)
    assert found.fits, found.refusals
    assert [(row.label, row.files, row.usable) for row in found.classes] == [("benign", 30, 30), ("malignant", 30, 30)]
    assert all(need.met for need in found.needs)
    assert sorted(folder.rglob("*")) == before


def test_the_numbers_of_the_splits_are_those_of_the_stage(folder, tmp_path, monkeypatch):
    from pipelines import ingest, split, validate

    cfg = preflight.parse(params.with_profile(None, FREE | {"data.source": "directory", "data.path": str(folder)}))
    found = checked(folder)
    monkeypatch.chdir(tmp_path)
    ingest.run(cfg.data)
    validate.run(cfg.validate, cfg.data, {})
    split.run(cfg.split, cfg.data, check._demands(cfg))
    counts = json.loads((tmp_path / "reports/split.json").read_text())["counts"]
    assert counts == {
        row.label: {"train": row.train, "calibration": row.calibration, "test": row.test} for row in found.classes
    }


def test_too_few_pictures_are_refused_with_the_words_of_the_stage_split(folder):
    settings = {"gate.min_malignant_recall": 0.6, "gate.max_margin_of_error": 0.12, "split.test": 0.3}
    found = checked(folder, **settings)
    (refusal,) = found.refusals
    assert refusal.startswith("expected at least 61 test pictures of malignant for gate.min_malignant_recall 0.6 with")
    assert "add about 174 pictures of malignant and 11 pictures of benign" in found.remedies
    assert [need.what.split(" for ")[1].split()[0] for need in found.needs if not need.met] == [
        "gate.min_malignant_recall"
    ]


def test_a_profile_that_would_do_is_named(tmp_path, monkeypatch):
    values = params.read()
    values["profiles"]["small"] = FREE
    (tmp_path / "params.yaml").write_text(json.dumps(values))
    monkeypatch.chdir(tmp_path)
    folder = datasets.make_folder(tmp_path / "pictures", per_class=30)
    found = check.run(folder, "paper", {"validate.min_side": 32}, timed=False)
    assert not found.fits
    assert found.profiles == ("small",)


@pytest.mark.parametrize(
    ("name", "content", "advice"),
    [
        ("IMG_1.HEIC", b"\0\0\0\x18ftypheic" + bytes(50), "replace them by intact copies"),
        ("scan.dcm", bytes(128) + b"DICM" + bytes(50), "replace them by intact copies"),
        ("clip.mp4", b"\0\0\0\x18ftypisom" + bytes(50), "ffmpeg"),
        ("cut.jpg", None, "replace them by intact copies"),
        ("letter.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(50), "they are not pictures"),
    ],
)
def test_unusable_files_are_listed_with_what_to_do_and_counted_as_by_the_gate(folder, name, content, advice):
    if content is None:
        Image.new("RGB", (64, 64), "salmon").save(folder / "whole.jpg")
        content = (folder / "whole.jpg").read_bytes()[:-200]
        (folder / "whole.jpg").unlink()
    (folder / "benign" / name).write_bytes(content)
    found = checked(folder)
    assert [kind.ids for kind in found.unusable] == [(f"benign/{name}",)]
    assert advice in found.unusable[0].do
    assert found.fits
    strict = checked(folder, **{"gate.max_quarantined": 0.01})
    assert strict.refusals == ("the gate would fail: 0.016 of the files are in quarantine > 0.010",)


def test_a_folder_without_any_usable_picture_is_refused(tmp_path):
    for name in ("benign/1.heic", "malignant/1.heic"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    found = checked(tmp_path)
    assert found.unusable[0].ids == ("benign/1.heic", "malignant/1.heic")
    assert found.refusals[-1] == "expected usable pictures, there is none"


def test_near_duplicates_of_different_classes_are_named(folder):
    with Image.open(folder / "benign/4.png") as picture:
        picture.transpose(Image.Transpose.ROTATE_90).save(folder / "malignant/copy.png")
    found = checked(folder)
    assert ("benign/4.png", "malignant/copy.png") in found.related.contradictions
    assert found.related.pictures >= 2


def test_identical_files_of_different_classes_are_refused_as_by_validate(folder):
    shutil.copyfile(folder / "benign/4.png", folder / "malignant/copy.png")
    (refusal, *_) = checked(folder).refusals
    assert refusal.startswith("one_label_a_content: expected identical files in one class only; seen: 2 of 61")
    assert "malignant/copy.png" in refusal


def test_warnings_that_the_gate_does_not_allow_are_refused_and_others_noted(folder):
    asked = {"validate.min_side": 64}
    assert any("the gate would fail: width: expected width of 64" in line for line in checked(folder, **asked).refusals)
    allowed = checked(folder, **asked, **{"gate.allowed_warnings": ["width", "height"]})
    assert allowed.fits
    assert any("allowed by gate.allowed_warnings: data: width" in line for line in allowed.notes)


def test_metadata_are_read_as_by_ingest(folder):
    (folder / "metadata.csv").write_text(
        "file,label,lesion_id,age\nbenign/0.png,benign,L1,40\nbenign/1.png,benign,L1,x\n"
    )
    found = checked(folder)
    assert found.metadata.rows == 2
    assert any("58 of 60 pictures: the folder has 'benign/10.png'" in line for line in found.refusals)
    assert found.related.groups >= 1
    refused = checked(folder, **{"attack.subgroups": {"age": [40]}})
    assert any("numbers are expected there, got 'x'" in line for line in refused.refusals)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((), r"expected at least two class folders in .*, got \[\]"),
        (("malignant",), r"expected at least two class folders in .*, got \['malignant'\]"),
        (("cat", "dog"), r"got \['malignant'\]; there are \['cat', 'dog'\]"),
    ],
)
def test_folders_without_the_expected_classes_are_refused(tmp_path, labels, message):
    folder = datasets.make_folder(tmp_path / "pictures", per_class=12, labels=labels)
    folder.mkdir(exist_ok=True)
    refusals = checked(folder).refusals
    assert any(re.search(message, line) for line in refusals), refusals


def test_stray_files_and_an_empty_class_folder_are_named(folder):
    (folder / "notes.txt").write_text("x")
    assert checked(folder).found.startswith(
        "61 files found, 60 used, 1 skipped: 1 outside the class folders (notes.txt); no metadata.csv"
    )
    (folder / "naevus").mkdir()
    (refusal,) = checked(folder).refusals
    assert "naevus, it is empty; fill or remove it" in refusal


def test_only_the_pictures_that_the_profile_takes_are_read(folder):
    found = checked(folder, **{"data.per_class": 12})
    assert [(row.files, row.taken) for row in found.classes] == [(30, 12)] * 2


def test_settings_that_contradict_each_other_are_refused_before_the_folder_is_blamed(folder):
    found = checked(folder, **{"gate.min_robust_accuracy": {"16/255": 0.1}})
    assert any("gate.min_robust_accuracy: expected L-infinity radii of attack.suite" in line for line in found.refusals)


@pytest.mark.parametrize(
    ("profile", "settings", "message"),
    [
        ("papr", {}, r"no profile 'papr'; there are \['demo'"),
        (None, {"split.tset": 0.3}, "--set sets 'split.tset', which the file lacks"),
        (None, {"split.test": 0.95}, "expected test and calibration below 1 together"),
    ],
)
def test_wrong_arguments_are_errors(folder, profile, settings, message):
    with pytest.raises(ParamsError, match=message):
        check.run(folder, profile, settings, timed=False)


def test_the_command_prints_text_or_json_and_its_exit_code_is_the_answer(folder, tmp_path):
    good = command(folder, "--no-time", *OPTIONS)
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.endswith("This folder will do for the values in params.yaml.\n")
    bad = command(folder, "--no-time", "--profile", "hardened", "--json")
    assert bad.returncode == 1
    answer = json.loads(bad.stdout)
    assert answer["fits"] is False
    assert answer["settings"] == "profile hardened"
    assert {row["label"] for row in answer["classes"]} == {"benign", "malignant"}


def test_a_path_that_is_no_folder_and_an_unknown_profile_have_exit_code_2(folder, tmp_path):
    missing = command(tmp_path / "nowhere")
    assert missing.returncode == 2
    assert f"error: expected a folder of pictures, got {tmp_path}/nowhere, which is no folder" in missing.stderr
    assert command(folder / "benign/0.png").returncode == 2
    unknown = command(folder, "--profile", "papr")
    assert unknown.returncode == 2
    assert "error: params.yaml: no profile 'papr'" in unknown.stderr


@pytest.mark.slow
def test_an_interrupt_ends_the_command_at_once_without_a_traceback(tmp_path):
    folder = datasets.make_folder(tmp_path / "pictures", per_class=1)
    for index in range(1, 4000):
        shutil.copyfile(folder / "benign/0.png", folder / f"benign/{index}.png")
    program = [sys.executable, "-m", "buckler.cli", "check", str(folder), "--set=data.per_class=0"]
    # The process that runs the tests may ignore SIGINT, and its children then do, too.
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    ours, terminal = pty.openpty()  # a bar is drawn on a terminal only
    termios.tcsetwinsize(terminal, (24, 80))
    env = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    pipes = {"stderr": terminal, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(program, preexec_fn=listen, env=env, **pipes) as child:
        os.close(terminal)
        errors = ""
        while "%|" not in errors:
            errors += os.read(ours, 1024).decode(errors="replace")
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=20)
    with suppress(OSError):  # the end of a terminal
        while more := os.read(ours, 1024):
            errors += more.decode(errors="replace")
    os.close(ours)
    assert child.returncode == exits.INTERRUPTED
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert out == ""


SIZES = {"train": 100, "calibration": 30, "test": 50, "attacked": 50, "all": 180}


def test_the_time_grows_with_the_pictures_and_withstanding_attacks_takes_longest():
    cfg, costs = preflight.load(), duration.Costs(gradient=0.1, forward=0.03, training=0.001, decode=0.002, start=4)
    few, most = (dict(duration._stages(cfg, SIZES, 2, costs, stable=stable)) for stable in (False, True))
    more = dict(duration._stages(cfg, {part: 2 * n for part, n in SIZES.items()}, 2, costs, stable=True))
    assert few["attack"] < most["attack"] < more["attack"]
    assert more["features"] == pytest.approx(2 * most["features"])


@pytest.mark.slow
def test_the_time_is_measured_on_this_machine():
    cfg = preflight.parse(params.with_profile(None, FREE))
    found = duration.estimate(cfg, SIZES, classes=2, decode_seconds=0.002)
    assert 0 < found.least <= found.most
    assert set(found.stages) >= {"features", "train", "export", "attack", "calibrate", "detect"}
    assert sum(most for _, most in found.stages.values()) == pytest.approx(found.most)
