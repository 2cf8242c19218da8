"""Command, console, service and watch give the same answer about the same champion."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY

from buckler import cli, watch
from buckler.detection.screening import SCHEMA
from buckler.errors import PromotionRefusedError
from buckler.release.promote import rollback
from buckler.release.restate import restate
from buckler.release.signing import signing
from buckler.serving.assessment import Assessment, ReasonCode
from buckler.serving.registry import STANDING_TAG, connect
from buckler.trust.approval import Signatures
from buckler.trust.opened_files import opened
from buckler.trust.standing import Claim
from buckler.trust.verdict import read_verdict
from buckler.watch.jobs import reevaluate
from services.classifier.releases.follower import follow
from services.classifier.releases.slot import ModelSlot
from services.classifier.settings import Settings as ServiceSettings
from services.console.registry import ConsoleRegistry
from services.console.settings import Settings as ConsoleSettings
from tests import projects
from tests.services.console.scene import Scene, small_project
from tests.unit.watch import made

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(module_tmp_path: Path) -> Path:
    return small_project(module_tmp_path / "project")


@pytest.fixture
def scene(
    project: Path, tmp_path: Path, mlflow_database: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Scene:
    """Versions 1 and 2, promoted in turn."""
    name = f"answer-{abs(hash(request.node.name)):x}"
    scene = Scene(tmp_path / "scene", project, name, mlflow_database)
    monkeypatch.chdir(scene.root)
    for variable, value in scene.env.items():
        monkeypatch.setenv(variable, value)
    suite = ({"attack": "fgsm", "radii": ["1/255"]},)
    sections = {
        "publish": {"experiment": name, "model_name": name},
        "watch": made.as_section(made.watching(records=16, suite=suite)),
    }
    (scene.root / "params.yaml").write_text(yaml.safe_dump(sections))
    for _ in range(2):
        scene.promote(scene.publish())
    return scene


def stored_release(scene: Scene, version: str) -> Path:
    uri = connect().get_model_version_download_uri(scene.name, version)
    return Path(uri.removeprefix("file://")) / "data/release"


def nothing(scene: Scene) -> None:
    """Leave version 2 the champion."""


def failed_and_set_by_hand(scene: Scene) -> None:
    scene.model.set_alias("champion", scene.publish(min_robust_accuracy={"1/255": 0.9}))


def rolled_back_and_set_back_by_hand(scene: Scene) -> None:
    rollback(scene.model)
    scene.model.set_alias("champion", "2")


def changed_and_withdrawn(scene: Scene) -> None:
    restate(scene.model, "2", "canary", Claim("withdrawn", "0 of 3"))
    (stored_release(scene, "2") / "model/detector.json").write_text("{}")


def withdrawn_and_degraded(scene: Scene) -> None:
    restate(scene.model, "2", "canary", Claim("withdrawn", "0 of 3"))
    restate(scene.model, "2", "drift", Claim("degraded", "darker"))


def degraded(scene: Scene) -> None:
    restate(scene.model, "2", "drift", Claim("degraded", "darker"))


def expired_and_degraded(scene: Scene) -> None:
    restate(scene.model, "2", "drift", Claim("degraded", "darker"), expires_at=datetime.now(UTC))


def with_a_damaged_standing(scene: Scene) -> None:
    scene.model.tag("2", STANDING_TAG, "{")


def by_a_later_version_of_the_product(scene: Scene) -> None:
    detector = scene.project / "models/detector/detector.json"
    kept = detector.read_text()
    try:
        detector.write_text(kept.replace(f'"schema": {SCHEMA}', f'"schema": {SCHEMA + 1}'))
        number = scene.publish()
    finally:
        detector.write_text(kept)
    sign_promotion(scene, number)


def promoted_without_an_approval(scene: Scene) -> None:
    sign_promotion(scene, scene.publish(signatures=Signatures(1, {})))


def sign_promotion(scene: Scene, number: str) -> None:
    """Sign what a promotion would have refused, as if it had become so afterwards."""
    with opened(stored_release(scene, number)) as files:
        verdict = read_verdict(files, projects.PUBLIC)
    with signing(scene.model) as signer:
        signer.promote(scene.model.version(number), verdict)


STATES: list[tuple[Callable[[Scene], None], set[str]]] = [
    (nothing, set()),
    (failed_and_set_by_hand, {"failed", "not_promoted"}),
    (rolled_back_and_set_back_by_hand, {"superseded"}),
    (changed_and_withdrawn, {"digest", "withdrawn"}),
    (withdrawn_and_degraded, {"withdrawn", "degraded"}),
    (degraded, {"degraded"}),
    (expired_and_degraded, {"expired", "degraded"}),
    (with_a_damaged_standing, {"standing"}),
    (by_a_later_version_of_the_product, {"unloadable"}),
    (promoted_without_an_approval, {"not_approved"}),
]


def said_by_the_command(capsys: pytest.CaptureFixture[str]) -> set[str]:
    capsys.readouterr()
    code = cli.main(["champion"])
    found = {line.split()[0] for line in capsys.readouterr().err.splitlines() if line.split()[0] in {*ReasonCode}}
    assert code == bool(found)
    return found


def said_by_the_console(scene: Scene) -> Assessment:
    champion = ConsoleRegistry(ConsoleSettings(model_name=scene.name)).overview().champion
    assert champion is not None
    return champion.assessment


def said_by_the_watch(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Return the sentences that the re-evaluation notes before it attacks, or its error."""
    noted: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(reevaluate.log, "warning", lambda _, reason: noted.append(str(reason)))
        run = watch.run_once("reevaluate")
    return tuple(noted) or (run.message,)


def said_by_a_new_service(scene: Scene) -> tuple[set[str], ModelSlot]:
    """Return the reasons that a service counts which has accepted nothing before, and what it serves."""
    shutil.rmtree(scene.root / "served", ignore_errors=True)
    before = {code: refused(code) for code in ReasonCode}
    slot = ModelSlot()
    settings = ServiceSettings(model_name=scene.name, releases_dir=scene.root / "served", follow_seconds=0.2)
    follow(settings, slot)
    return {code.value for code in ReasonCode if refused(code) > before[code]}, slot


def refused(code: str) -> float:
    return REGISTRY.get_sample_value("buckler_model_refused_total", {"reason": code}) or 0


@pytest.mark.parametrize(("change", "expected"), STATES, ids=[change.__name__ for change, _ in STATES])
def test_all_give_the_same_answer(scene: Scene, change, expected: set[str], capsys, monkeypatch):
    change(scene)
    assert said_by_the_command(capsys) == expected

    assessment = said_by_the_console(scene)
    assert {code.value for code in assessment.codes} == expected

    noted = "\n".join(said_by_the_watch(monkeypatch))
    assert [sentence for sentence in assessment.sentences if sentence.partition(";")[0] not in noted] == []

    counted, slot = said_by_a_new_service(scene)
    if assessment.may_load:
        assert slot.served is not None
        assert counted == expected & {"standing"}  # nothing else is refused
        assert slot.served.withdrawn == (not assessment.may_serve)
        assert (slot.served.state == "degraded") == (assessment.must_review and assessment.may_serve)
    else:
        assert slot.served is None
        assert counted == expected


def test_the_console_says_who_must_approve_before_it_promotes(scene: Scene):
    number = scene.publish(signatures=Signatures(1, {}))
    console = ConsoleRegistry(ConsoleSettings(model_name=scene.name))
    sentence = f"1 of 0 people must approve version {number}, nobody did"
    assert sentence in " ".join(console.overview().refusals)
    with pytest.raises(PromotionRefusedError, match=sentence):
        console.promote(number)
