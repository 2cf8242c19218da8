"""Settings that no run can satisfy are refused before the first picture is copied."""

import re
import shutil
from pathlib import Path

import pytest

from buckler import params
from buckler.errors import ModelError, ParamsError
from buckler.modality.base import Modality
from buckler.models import denoiser, initial
from buckler.models.initial import InitialWeights, save
from buckler.models.networks.tiny import TINY
from pipelines import preflight, weights
from pipelines.stage import ROOT
from tests.forms import PICTURE, square
from tests.pipelines.checkout import Checkout

PROFILES = params.read(ROOT / "params.yaml")["profiles"]


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Writes params.yaml with the values of a profile, changed, and reads all sections."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    save(InitialWeights("none"), preflight.WEIGHTS)

    def read(profile="demo", **changes):
        shutil.copy(ROOT / "params.yaml", "params.yaml")
        small = {"train.network": "tiny", "train.weights": "none"}
        params.apply_profile(profile, small | changes, Path("params.yaml"))
        return preflight.load()

    return read


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_agrees_with_itself(settings, profile):
    preflight.run(settings(profile))
    assert preflight.PASSED.exists()


def test_what_is_written_does_not_depend_on_the_settings(settings):
    written = set()
    for changes in ({}, {"gate.min_clean_accuracy": 0.5, "train.epochs": 3}):
        preflight.run(settings(**changes))
        written.add(preflight.PASSED.read_bytes())
    assert len(written) == 1


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "gate.min_robust_accuracy",
            {1: 0.3, 16: 0.1},
            r"radii of attack\.suite, \['1/255', .*\], got \['16/255'\]",
        ),
        ("gate.min_robust_sensitivity", {3: 0.1}, r"gate\.min_robust_sensitivity: .* got \['3/255'\]"),
        ("gate.min_robust_specificity", {3: 0.1}, r"gate\.min_robust_specificity: .* got \['3/255'\]"),
        ("gate.min_subgroup_robust_accuracy", {3: 0.1}, r"gate\.min_subgroup_robust_accuracy: .* got \['3/255'\]"),
        ("gate.min_detector_auc", {16: 0.6}, r"gate\.min_detector_auc: .* of detect\.suite, .* got \['16/255'\]"),
        (
            "gate.max_evaded",
            {1: 0.6},
            r"expected radii of detect\.evasion, \['2/255'\], got \['1/255'\]",
        ),
        ("gate.allowed_warnings", ["unique_ids"], r"gate\.allowed_warnings: expected warnings .* got \['unique_ids'\]"),
        ("calibrate.radii", ["0.4/255", "1/255"], r"calibrate\.radii: expected at least 1/255, .* got 0\.4/255"),
        ("harden.radius", "2 mm", r"harden\.radius: expected a radius of data\.modality picture, as 1/255, got 2 mm"),
        ("gate.min_robust_accuracy", {"1 mm": 0.3}, r"gate\.min_robust_accuracy: .* as 1/255, got 1 mm"),
        ("attack.suite", [{"attack": "fgsm", "radii": ["2 mm"]}], r"attack\.suite\.radii: .* got 2 mm"),
        ("detect.evasion.radii", ["4/255", "2/255"], r"detect\.evasion\.radii: expected ascending radii"),
        (
            "data.malignant",
            ["melanoma"],
            r"data\.malignant: expected labels of the synthetic source.*got \['melanoma'\]",
        ),
        ("validate.labels", ["benign", "naevus"], r"data\.malignant: expected labels of validate\.labels"),
        (
            "data.classes",
            {"benign": {"x": [1]}, "malignant": {"x": [2]}},
            r"data\.classes: expected \{\} for the synthetic source, which has no table, got \['benign', 'malignant'\]",
        ),
        ("data.per_class", 0, r"data\.per_class: expected at least 1 for the synthetic source, got 0"),
        ("data.per_class", 1, r"data\.per_class 1: expected pictures of class 'benign' in every split"),
        (
            "data.per_class",
            40,
            r"data\.per_class 40: too few pictures: .*; one of these changes is enough: raise data\.per_class from 40",
        ),
        (
            "split.test",
            0.15,
            r"at least 111 test pictures of malignant for gate\.min_malignant_recall 0\.6 with .* got",
        ),
        (
            "attack.records",
            96,
            r"attack\.records: expected 0 \(all\) or at least 111 for gate\.min_robust_sens.*, got 96",
        ),
        (
            "data.restore",
            "blur",
            r"data\.restore: expected one of the restoration steps of data\.modality picture, \['none', 'nl_means', "
            r".*'file:PATH'\], got 'blur'",
        ),
    ],
)
def test_sections_that_contradict_each_other_are_refused(settings, key, value, message):
    cfg = settings(**{key: value})
    with pytest.raises(ParamsError, match=message):
        preflight.run(cfg)
    assert not preflight.PASSED.exists()


@pytest.mark.parametrize("restore", ["nl_means", "file:denoiser.npz"])
def test_another_modality_refuses_every_restoration_step(settings, monkeypatch, restore):
    monkeypatch.setattr(type(PICTURE), "restorations", Modality.restorations)
    words = rf"data\.restore: expected one of the restoration steps of .*, \['none'\], got '{restore}'"
    with pytest.raises(ParamsError, match=words):
        preflight.run(settings(**{"data.restore": restore}))


def test_the_denoiser_is_identified_by_its_weights(settings):
    path = Path("denoiser.npz")
    denoiser.Denoiser(denoiser.build(seed=1)).save(path)
    cfg = settings(**{"data.restore": f"file:{path}"})
    weights.run(cfg.train, cfg.data)
    preflight.run(cfg)
    denoiser.Denoiser(denoiser.build(seed=2)).save(path)
    with pytest.raises(ModelError, match=r"data\.restore: expected denoiser\.npz with sha256:.*, got sha256:"):
        preflight.run(cfg)
    path.write_bytes(b"no weights")
    weights.run(cfg.train, cfg.data)
    with pytest.raises(ModelError, match=r"denoiser\.npz is not a file with the weights of the residual CNN"):
        preflight.run(cfg)
    path.unlink()
    with pytest.raises(ModelError, match=r"data\.restore: expected file: and the path of a denoiser's weights, got"):
        weights.run(cfg.train, cfg.data)


def test_all_contradictions_are_in_one_line(settings):
    cfg = settings(**{"gate.max_evaded": {1: 0.6}, "gate.min_detector_auc": {16: 0.6}})
    with pytest.raises(ParamsError, match=r"^params\.yaml: gate\.min_detector_auc: .*; gate\.max_evaded: [^\n]*$"):
        preflight.run(cfg)


def test_a_floor_of_zero_for_subgroups_needs_no_attack(settings):
    preflight.run(settings(**{"gate.min_subgroup_robust_accuracy": {3: 0.0}}))


def test_evasion_is_not_judged_of_a_randomised_network(settings):
    asked = {"gate.max_evaded": {2: 0.6}}
    preflight.run(settings(**asked))
    with pytest.raises(ParamsError, match=r"gate\.max_evaded: expected radii with train\.defence randomised, \[\]"):
        preflight.run(settings(**asked, **{"train.defence": "randomised"}))


def test_two_lines_of_the_detectors_suite_with_one_name_are_refused(settings):
    line = {"attack": "fgsm", "radii": ["1/255"]}
    with pytest.raises(ParamsError, match=r"detect\.suite: more than one line is called \['fgsm'\]"):
        preflight.run(settings(**{"detect.suite": [line, line]}))


def test_more_unfrozen_blocks_than_the_network_has_are_refused_if_it_is_hardened(settings):
    asked = {"harden.unfrozen_blocks": 5}
    preflight.run(settings(**asked))
    with pytest.raises(ParamsError, match=r"harden\.unfrozen_blocks: expected at most 4 for the network tiny, got 5"):
        preflight.run(settings(**asked, **{"train.defence": "adversarial"}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.per_class", -1),
        ("data.image_size", 0),
        ("data.classes", {"a": {"ill": [True]}, "b": {"ill": [False]}}),
        ("data.classes", {"a": {"grade": [1]}}),
        ("data.classes", {"a": {"grade": 1}, "b": {"grade": 2}}),
        ("data.classes", {"a": {"grade": [None]}, "b": {"grade": [2]}}),
        ("data.group", None),
        ("validate.min_side", 9000),
        ("split.test", 0.95),
        ("features.copies", -1),
        ("train.epochs", 0),
        ("train.learning_rate", 0.0),
        ("train.dropout", 1.0),
        ("harden.steps", 0),
        ("harden.clean_share", 0.98),
        ("randomise.smallest", 0.0),
        ("export.parity", {"min_label_agreement": 2}),
        ("export.records", 0),
        ("export.radii", []),
        ("evaluate.calibration_bins", 0),
        ("attack.records", -1),
        ("attack.batch_size", 0),
        ("detect.strangers", 0),
        ("detect.evasion.steps", 0),
        ("detect.evasion", {"records": 1, "radii": [], "steps": 1, "objectives": [], "step": 2}),
        ("attack.suite", [{"attack": "noise", "radii": ["1/255"]}]),
        ("attack.suite", [{"attack": "fgms", "radii": ["1/255"]}]),
        ("calibrate.max_fpr", 0.0),
        ("calibrate.radii", []),
        ("detect.evasion", {"records": 20, "radii": ["2/255"], "steps": 10, "objectives": ["win"]}),
        ("gate.min_clean_accuracy", 70),
        ("publish.model_name", "skin/lesion"),
    ],
)
def test_an_impossible_value_is_refused_with_its_name(settings, key, value):
    with pytest.raises(ParamsError, match=rf"params\.yaml: {re.escape(key.split('.')[0])}"):
        settings(**{key: value})


def test_an_unknown_key_of_a_late_section_is_refused(settings):
    settings()
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("  valid_days:", "  valid_dais:", 1))
    with pytest.raises(ParamsError, match=r"section 'gate' misses \['valid_days'\], does not know \['valid_dais'\]"):
        preflight.load()


def test_a_network_that_does_not_exist_or_needs_larger_pictures_is_refused(settings):
    with pytest.raises(ModelError, match=r"expected one of the networks vgg19, .*, small, tiny, conv1d, got vgg16"):
        preflight.run(settings(**{"train.network": "vgg16"}))
    needed = r"expected data\.image_size of at least 32 for VGG-19, got the shape \(16, 16, 3\)"
    with pytest.raises(ModelError, match=needed):
        preflight.run(settings(**{"train.network": "vgg19", "data.image_size": 16}))


def test_weights_of_another_network_are_refused(settings):
    from buckler.models.backend import keras

    other = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    for network, fits in ((TINY.base(square(64), seed=1), True), (other, False)):
        network.save_weights("my.weights.h5")
        save(initial.identify("my.weights.h5", "tiny"), preflight.WEIGHTS)
        cfg = settings(**{"train.weights": "my.weights.h5"})
        if fits:
            preflight.run(cfg)
        else:
            with pytest.raises(ModelError, match="is not a Keras file with the weights of the tiny network"):
                preflight.run(cfg)


@pytest.fixture
def theirs(settings):
    """Reads all sections with somebody else's network for pictures of 64 pixels."""
    from tests.keras_files import residual, saved

    saved(residual(side=64), "theirs.keras")
    save(initial.identify("none", "file:theirs.keras"), preflight.WEIGHTS)
    return lambda **changes: settings(**{"train.network": "file:theirs.keras"} | changes)


@pytest.mark.slow
def test_a_network_from_a_file_is_accepted_and_its_taps_are_counted(theirs):
    preflight.run(theirs(**{"train.defence": "adversarial", "harden.unfrozen_blocks": 3, "train.taps": []}))
    preflight.run(theirs(**{"train.taps": ["sum1", "last"]}))
    with pytest.raises(ParamsError, match=r"harden\.unfrozen_blocks: expected at most 3 for the network file:theirs"):
        preflight.run(theirs(**{"train.defence": "adversarial", "harden.unfrozen_blocks": 4}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.image_size": 32}, r"expected an input of 32 x 32 x 3, as data\.image_size says, got 64 x 64 x 3"),
        ({"train.network": "file:gone.keras"}, r"train\.network: expected a Keras network, got gone\.keras"),
        ({"train.weights": "imagenet"}, r"train\.weights: expected none with train\.network file:theirs\.keras"),
        ({"train.taps": ["sum9"]}, r"train\.taps: expected layers of theirs\.keras with maps, .*, got sum9"),
        (
            {"train.network": "tiny", "train.taps": ["last"]},
            r"train\.taps: expected \[\] for the network tiny, which has",
        ),
    ],
)
def test_a_network_from_a_file_that_does_not_fit_is_refused(theirs, changes, message):
    with pytest.raises((ModelError, ParamsError), match=message):
        preflight.run(theirs(**changes))


@pytest.mark.slow
def test_dvc_runs_no_other_stage_before(tmp_path):
    project = Checkout(tmp_path, **{"gate.min_robust_accuracy": {16: 0.1}})
    for target in ([], ["ingest"], ["split"]):
        refused = project("dvc", "repro", *target)
        assert refused.returncode != 0
        assert "error: params.yaml: gate.min_robust_accuracy: expected L-infinity radii" in refused.stderr
        assert re.findall("Running stage '(.*)'", refused.stdout) == ["weights", "preflight"]
