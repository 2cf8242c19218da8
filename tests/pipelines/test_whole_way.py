"""The pipeline as a user runs it: `dvc repro` in a copy of the project, from pictures to a served answer."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest
import yaml

from benchmarks.servers import free_port
from buckler.data import pictures
from buckler.trust import digests
from tests.pipelines.checkout import BIN, ROOT, Checkout


@pytest.fixture(scope="module")
def project(module_tmp_path):
    made = Checkout(module_tmp_path / "project")
    result = made("dvc", "repro")
    assert result.returncode == 0, result.stdout + result.stderr
    return made


pytestmark = pytest.mark.slow


def test_every_stage_writes_the_report_that_others_rely_on(project):
    robustness, evaluation = project.report("robustness.json"), project.report("evaluation.json")
    digest = digests.directory_digest(project.root / "models/classifier")
    assert robustness["model"]["digest"] == evaluation["model"]["digest"] == digest
    version = pictures.version(project.root / "data/splits")
    assert robustness["data"]["version"] == evaluation["data"]["version"] == version
    cells = {(cell["attack"], cell["radius"]): cell for cell in robustness["cells"]}
    assert set(cells) == {("fgsm", "1/255"), ("fgsm", "2/255"), ("pgd", "1/255"), ("pgd", "2/255"), ("noise", "2/255")}
    for cell in cells.values():
        rate = cell["robust_accuracy"]
        assert 0 <= rate["low"] <= rate["value"] <= rate["high"] <= 1
        assert sum(map(sum, cell["confusion"])) == robustness["data"]["images"] == 30
        assert cell["scored_in"] == evaluation["scored_in"] == project.report("runtime.json")["serves"]
    heat_map = evaluation["heat_map"]
    assert heat_map["pointed"]["pictures"] == sum(row["pictures"] for row in heat_map["by_label"].values()) == 30
    worst = [row["robust_accuracy"]["value"] for row in robustness["worst_case"]]
    assert worst == sorted(worst, reverse=True)
    assert worst[0] <= robustness["clean_accuracy"]["value"] == evaluation["clean_accuracy"]["value"]
    for row in robustness["worst_case"]:  # two classes of one size
        kinds = (row["sensitivity"]["value"] + row["specificity"]["value"]) / 2
        assert kinds == pytest.approx(row["robust_accuracy"]["value"])
    assert [(row["group"], row["pictures"]) for row in robustness["subgroups"]] == [("benign", 15), ("malignant", 15)]
    detector = project.report("detector.json")
    rows = [(row["attack"], row["radius"], row["stops_at_boundary"]) for row in detector["attacks"]]
    assert rows == [
        *(("fgsm", "2/255", False), ("fgsm", "8/255", False)),
        *(("pgd", "1/255", True), ("pgd", "2/255", True)),
        *(("pgd-joint", "2/255", True), ("pgd-selective", "2/255", True)),
    ]
    assert [row["adaptive"] for row in detector["attacks"]] == [False] * 4 + [True] * 2
    assert [row["radius"] for row in detector["worst"]] == ["1/255", "2/255", "8/255"]
    assert detector["scored_in"] == project.report("runtime.json")["serves"]
    decisions = project.report("decisions.json")
    assert decisions["model"] == detector["model"]
    assert decisions["uncalibrated_error"] == pytest.approx(evaluation["calibration_error"])
    assert sum(row["pictures"] for row in decisions["reliability"]) == 30
    right = sum(row["right"] for row in decisions["reliability"])
    assert right / 30 == pytest.approx(evaluation["clean_accuracy"]["value"])
    released = project.root / "models/release"
    assert json.loads((released / "evidence/decisions.json").read_text()) == decisions
    assert json.loads((released / "model/detector.json").read_text())["danger_limit"] == decisions["danger"]["limit"]


def test_reviews_and_accepted_misses_are_tabulated(project):
    result = project("python", "-m", "benchmarks.accepted_misses", "--name", "small", "--out", "reports/results")
    assert result.returncode == 0, result.stderr
    found = project.report("decisions.json")
    for shown in ("with_limit", "without_limit"):
        assert f"| {found[shown]['accepted_misses']['value']:.1%} (" in result.stdout
        assert f"| {found[shown]['reviews']['value']:.1%} (" in result.stdout


def test_the_comparison_with_the_paper_has_the_numbers_of_the_reports(project):
    result = project("python", "-m", "benchmarks.paper", "--out", "reports/results")
    assert result.returncode == 0, result.stderr
    clean = project.report("evaluation.json")["clean_accuracy"]["value"]
    assert f"| clean | {clean:.1%} (" in result.stdout
    for cell in project.report("robustness.json")["cells"]:
        accuracy = cell["robust_accuracy"]["value"]
        assert f"| {cell['attack']} {cell['radius']}, crafted in {cell['crafted_in']} | {accuracy:.1%} (" in (
            result.stdout
        )
    written = project.report("results/paper.json")
    assert written["measured"]["machine"]
    assert set(written["tables"]) == {"accuracy", "classes", "confusion", "confusion_attacked"}


def test_plots_are_drawn_and_dvc_shows_them(project):
    names = {path.name for path in (project.root / "reports/plots").glob("*.png")}
    assert names == {
        *("training.png", "confusion.png", "roc.png", "reliability.png", "robustness.png"),
        *("confusion_attacked.png", "triptych.png", "detector_roc.png", "detector_risk.png"),
    }
    shown = project("dvc", "plots", "show")
    assert shown.returncode == 0, shown.stderr
    page = (project.root / "dvc_plots/index.html").read_text()
    assert "triptych.png" in page
    assert "robust accuracy by epsilon" in page


def make(root, *arguments):
    """Run a target of the project's Makefile on the files in ``root``."""
    command = ["make", "--file", ROOT / "Makefile", "--directory", root, f"BIN={BIN}", *arguments]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120
    )


def stages_run(result):
    assert result.returncode == 0, result.stdout + result.stderr
    return re.findall("Running stage '(.*)'", result.stdout)


def test_a_second_repro_only_looks_at_weights_key_time_and_registry(project):
    again = project("dvc", "repro")
    assert sorted(stages_run(again)) == ["publish", "signer", "weights"]
    assert "already registered as version 1" in again.stdout


def test_what_was_removed_comes_back_from_the_cache_and_the_registry_stays(project):
    done = make(project.root, "clean")
    assert done.returncode == 0, done.stderr
    assert not (project.root / "models").exists()
    assert {"keys", "mlflow.db", "mlartifacts"} <= {path.name for path in (project.root / ".buckler").iterdir()}
    again = project("dvc", "repro")
    assert sorted(stages_run(again)) == ["publish", "signer", "weights"]
    assert "already registered as version 1" in again.stdout


def test_whoever_has_the_cache_and_no_key_gets_a_verdict_of_a_new_key_and_an_empty_registry_is_filled(project):
    state, aside = project.root / ".buckler", project.root / "aside"
    state.rename(aside)
    try:
        again = project("dvc", "repro")
        assert sorted(stages_run(again)) == ["gate", "publish", "signer", "weights"]
        assert "made key pairs in .buckler/keys" in again.stdout
        assert "registered as version 1 (challenger)" in again.stdout
        assert project("buckler", "verify", "models/release").returncode == 0
        promoted = project("buckler", "promote")
        assert promoted.returncode == 0, promoted.stderr
        assert project("buckler", "champion").returncode == 0
    finally:
        shutil.rmtree(state)
        aside.rename(state)
    again = project("dvc", "repro")  # the verdict of the first key comes back with the key
    assert sorted(stages_run(again)) == ["publish", "signer", "weights"]
    assert "already registered as version 1" in again.stdout


def test_purge_asks_first_and_then_leaves_nothing(module_tmp_path):
    root = module_tmp_path / "purged"
    (root / ".buckler/keys").mkdir(parents=True)
    (root / ".buckler/keys/verdict.pem").write_text("key")
    shutil.copytree(ROOT / "infra", root / "infra")
    shutil.copytree(ROOT / "src", root / "src")
    shutil.copy(ROOT / "params.yaml", root)
    refused = make(root, "purge", "--no-print-directory")
    assert refused.returncode == 2
    assert "expected a terminal to ask on, got none; make purge YES=1 does not ask" in refused.stdout
    assert (root / ".buckler/keys/verdict.pem").exists()
    done = make(root, "purge", "YES=1")
    assert done.returncode == 0, done.stderr
    assert not (root / ".buckler").exists()


def test_two_clones_of_the_project_make_the_same_files(project, module_tmp_path):
    clone = Checkout(module_tmp_path / "clone", **project.settings)
    result = clone("dvc", "repro", "gate", "report")
    assert result.returncode == 0, result.stdout + result.stderr
    first, second = (yaml.safe_load((each.root / "dvc.lock").read_text())["stages"] for each in (project, clone))
    for stage in first.keys() - {"signer", "gate", "publish"}:  # keys and times of signatures differ
        assert first[stage] == second[stage], stage
    assert project.report("gate.json") == clone.report("gate.json")
    # The whole release differs in its signed verdict only.
    releases = [each.root / "models/release" for each in (project, clone)]
    ours, theirs = (digests.file_digests(release) for release in releases)
    assert {name for name in ours | theirs if ours.get(name) != theirs.get(name)} == {"verdict.json"}
    shutil.rmtree(clone.root)


def test_the_release_has_a_valid_verdict(project):
    result = project("buckler", "verify", "models/release")
    assert result.returncode == 0, result.stderr
    weights = project.root / "models/release/model/classifier.keras"
    copy = project.root / "tampered"
    shutil.copytree(project.root / "models/release", copy)
    flipped = bytearray(weights.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (copy / "model/classifier.keras").write_bytes(flipped)
    refused = project("buckler", "verify", "tampered")
    assert refused.returncode != 0
    assert "differ from the digests in the verdict: ['model/classifier.keras']" in refused.stderr
    shutil.rmtree(copy)


def test_a_promoted_model_is_attacked_again_by_watch(project):
    promoted = project("buckler", "promote")
    assert promoted.returncode == 0, promoted.stderr
    assert ": promoted, the champion is version 1" in promoted.stdout
    watched = project("buckler", "watch", "--once", "reevaluate")
    assert watched.returncode == 0, watched.stdout + watched.stderr
    assert "alembic" not in watched.stderr


def test_the_demo_promotes_idempotently_asks_the_served_model_and_stops_what_it_started(project):
    names = ("MLFLOW", "SERVICE", "CONSOLE", "PROMETHEUS", "ALERTMANAGER")
    ports = {f"BUCKLER_{name}_PORT": str(free_port()) for name in names}
    ports["BUCKLER_WATCH_PORT"] = str(free_port())
    result = project("python", "-m", "infra.local", "demo", "--results", "reports/results", **ports)
    assert result.returncode == 0, result.stdout + result.stderr
    assert ": version 1 is already the champion" in result.stdout
    assert re.search(r"] train +unchanged\n", result.stdout)
    assert "success: the servers are stopped" in result.stdout
    for page in ("MLflow UI", "API docs", "service metrics", "watch metrics"):
        assert page in result.stdout
    assert "test pictures" in project.report("ask/answers.json")["about"]
    times = {row["step"]: row for row in project.report("results/demo.json")["tables"]["time"]["rows"]}
    assert times["stage train"]["source"] == "unchanged"
    assert times["stage weights"]["silent"] >= 0
    steps = ("pipeline", "promote", "start the servers", "ask the service")
    total = times["pictures to served answers"]["seconds"]
    assert total == pytest.approx(sum(times[step]["seconds"] for step in steps), abs=2)
    assert not list((project.root / ".buckler/run").glob("*.pid"))
    for port in ports.values():
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(port))) != 0


def test_an_interrupted_demo_goes_on_where_it_stopped(project):
    project.set(**{"split.seed": 8})
    try:
        with project.started("python", "-m", "infra.local", "demo") as demo:
            said = ""
            while "] features " not in said:  # then the stage `train` begins
                said += demo.stdout.readline()
                assert demo.poll() is None, said
            time.sleep(1)
            demo.send_signal(signal.SIGINT)
            said += demo.communicate(timeout=60)[0]
        assert demo.returncode == 130, said
        assert said.endswith("interrupted: finished stages are kept, the next run resumes there\n")
        assert not list((project.root / ".buckler/run").glob("*.pid"))
        again = project("dvc", "repro", "train")
        assert re.findall("Running stage '(.*)'", again.stdout) == ["weights", "train"]
    finally:
        project.set()
        assert project("dvc", "repro").returncode == 0  # the results of before, from the cache


def test_an_occupied_port_is_one_clear_error_and_leaves_no_process(project):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        result = project("python", "-m", "infra.local", "up", BUCKLER_MLFLOW_PORT=port)
    assert result.returncode == 1
    assert f"error: port {port} for mlflow is taken" in result.stderr
    assert not list((project.root / ".buckler/run").glob("*.pid"))


def test_a_change_of_the_style_sheet_draws_again_and_measures_nothing(project):
    style = project.root / "src/buckler/reporting/templates/style.css"
    before, page = style.read_text(), project.root / "reports/robustness.html"
    style.write_text(f"{before}\nh1 {{ letter-spacing: 0.01em; }}\n")
    try:
        again = project("dvc", "repro")
        assert "letter-spacing: 0.01em" in page.read_text()
    finally:
        style.write_text(before)
    assert again.returncode == 0, again.stderr
    assert sorted(stages_run(again)) == ["publish", "report", "signer", "weights"]


def test_a_model_below_its_floor_is_published_but_never_promoted(project):
    project.set(**{"gate.min_clean_accuracy": 1.0})
    try:
        result = project("dvc", "repro")
        assert result.returncode == 0, result.stderr
        assert "Running stage 'train'" not in result.stdout
        gate = project.report("gate.json")
        assert not gate["passed"]
        assert any("clean accuracy" in reason for reason in gate["reasons"])
        refused = project("buckler", "promote")
        assert refused.returncode == 1
        assert "clean accuracy" in refused.stderr
        champion = project("buckler", "champion")
        assert "version 1, promoted" in champion.stdout
    finally:
        project.set()


def test_bad_settings_end_in_one_readable_line(project):
    settings = yaml.safe_load((project.root / "params.yaml").read_text())
    settings["split"]["sede"] = settings["split"].pop("seed")
    (project.root / "params.yaml").write_text(yaml.safe_dump(settings))
    try:
        result = project("python", "-m", "pipelines.split")
    finally:
        shutil.copy(ROOT / "params.yaml", project.root / "params.yaml")
        project.set()
    assert result.returncode == 1
    assert "misses ['seed'], does not know ['sede']" in result.stderr
    assert "Traceback" not in result.stderr
