"""The whole pipeline with VGG-19 on seven classes of real pictures."""

import pytest

from tests.pipelines.checkout import Checkout

pytestmark = pytest.mark.slow


@pytest.mark.real_data
def test_seven_classes_of_real_pictures_need_no_code_change(tmp_path, real_data, mlflow_database):
    project = Checkout(
        tmp_path / "project",
        **{
            "data.source": "directory",
            "data.path": str(real_data / "ham7"),
            "data.per_class": 14,
            "data.malignant": ["akiec", "bcc", "mel"],
            "validate.min_per_class": 10,
            "export.radii": ["1/255"],
            "export.records": 14,
            "attack.records": 7,
            "attack.batch_size": 7,
            "attack.suite": [
                {"attack": "fgsm", "radii": ["1/255"]},
                {"attack": "pgd", "radii": ["1/255"], "steps": 5},
                {"attack": "noise", "radii": ["1/255"]},
            ],
            "calibrate.radii": ["1/255", "2/255"],
            "detect.records": 7,
            "detect.batch_size": 7,
            "detect.suite": [{"attack": "fgsm", "radii": ["2/255"]}],
            "detect.evasion": {"records": 4, "radii": ["2/255"], "steps": 2, "objectives": ["joint"]},
            "attack.subgroups": {"sex": [], "age": [40, 60], "localization": []},
            "train.network": "vgg19",
            "train.hidden": [128, 64],
            "train.learning_rate": 5.0e-4,
            "train.weights": str(real_data / "weights/vgg19_imagenet_notop.h5"),
        },
    )
    result = project("dvc", "repro", MLFLOW_TRACKING_URI=mlflow_database)
    assert result.returncode == 0, result.stdout + result.stderr
    assert project.report("robustness.json")["labels"] == ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
    rates = [cell["malignant_to_benign_rate"] for cell in project.report("robustness.json")["cells"]]
    assert all(0 <= rate <= 1 for rate in rates)
    counted = {}
    for row in project.report("robustness.json")["subgroups"]:
        counted[row["column"]] = counted.get(row["column"], 0) + row["pictures"]
    assert project.report("evaluation.json")["heat_map"] is None  # nobody knows where these lesions are
    assert counted == dict.fromkeys(
        ("label", "sex", "age", "localization"), project.report("robustness.json")["data"]["images"]
    )
