"""Actions of the policy after a job's finding, in a real MLflow registry with signed standings."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from buckler import watch
from buckler.errors import BucklerError, PromotionRefusedError, RegistryError
from buckler.release.assess import Assessor
from buckler.release.promote import promote as promote_release
from buckler.release.promote import rollback
from buckler.release.publish import publish as publish_release
from buckler.release.restate import restate
from buckler.release.settings import PublishParams
from buckler.release.tracking import WritableRegistry
from buckler.serving.aliases import CHAMPION
from buckler.serving.registry import PROMOTION_TAG, STANDING_TAG, connect
from buckler.state import paths
from buckler.trust import audit_chain, keys, standing
from buckler.trust.opened_files import OpenedFiles
from buckler.trust.verdict import Source
from buckler.watch import policy
from tests import projects
from tests.unit.watch import made


@pytest.fixture
def name(project, registry):
    """The model's name in a registry where version 2 was promoted after version 1."""
    (project / "params.yaml").write_text(yaml.safe_dump({"publish": {"experiment": registry, "model_name": registry}}))
    keys.generate_key_pair(paths.KEYS, keys.VERDICTS, keys.PROMOTIONS)
    for weights in (b"one", b"two"):
        publish(project, registry, weights)
        promote_release(WritableRegistry(registry))
    return registry


def publish(project, registry, weights):
    projects.make_project(project, weights=weights)
    verdict = projects.build(project, name=registry, key=keys.load_signing_key())
    names, source = PublishParams(registry, registry), Source(None, False)
    release = OpenedFiles.of(project / "models/release")
    return publish_release(
        release, project / "reports", names=names, parameters={}, source=source, verdict=verdict
    ).version


def champion(name):
    return WritableRegistry(name).champion().version


def stands(name, version):
    text = WritableRegistry(name).version(version).standing
    if not text:
        return None
    return standing.read(text, keys.load_trusted_keys().promotion, model_name=name, version=version, registry="local")


def follow(result, *actions, job="reevaluate", promote=False):
    cfg = made.watching(policy={**dict.fromkeys(watch.JOBS, ()), job: actions}, promote=promote)
    return policy.follow(job, result, cfg, watch.History())


def audited():
    report = audit_chain.verify(paths.WATCH_AUDIT_LOG)
    assert report.problem is None
    return [json.loads(line) for line in paths.WATCH_AUDIT_LOG.read_text().splitlines()]


FAILED = watch.Finding(False, "0.1 < 0.3", version="2")
PASSED = watch.Finding(True, "passed", version="2")


def test_passing_renews_the_verdict_by_a_signed_standing(name):
    (done,) = follow(watch.Finding(True, "passed", version="2", renews_days=60))
    found = stands(name, "2")
    assert found.state == "holds"
    assert found.expires_at - datetime.now(UTC) > timedelta(days=59)
    assert done == f"renewed until {found.expires_at.isoformat()}"
    assert [line["action"] for line in audited()] == ["renew"]
    assert made.metrics()["buckler_verdict_expiry_timestamp_seconds"] == found.expires_at.timestamp()
    # `buckler champion` and rollbacks use the renewed expiry.
    later = datetime.now(UTC) + timedelta(days=45)
    assert Assessor(WritableRegistry(name), later).champion().reasons == ()


def test_passing_without_a_renewal_needs_no_registry(here):
    assert follow(PASSED, job="canary") == []


def test_renewing_without_the_signing_key_is_an_error_that_says_what_to_do(name):
    (paths.KEYS / keys.PROMOTION_PRIVATE_FILE).unlink()
    with pytest.raises(BucklerError, match="name it in BUCKLER_PROMOTION_SIGNING_KEY"):
        follow(watch.Finding(True, "passed", version="2", renews_days=30))


def test_an_alert_is_counted_and_logged_and_changes_nothing(name):
    follow(FAILED, "alert")
    assert stands(name, "2") is None
    assert champion(name) == "2"
    assert made.metrics()['buckler_policy_actions_total{action="alert",job="reevaluate"}'] == 1
    (line,) = audited()
    assert (line["job"], line["action"], line["reason"]) == ("reevaluate", "alert", "0.1 < 0.3")


@pytest.mark.parametrize(("action", "state"), [("degrade", "degraded"), ("stop", "withdrawn")])
def test_a_claim_is_signed_once_and_lifted_only_by_the_same_job(name, action, state):
    follow(FAILED, action)
    follow(FAILED, action)
    found = stands(name, "2")
    assert (found.state, found.reasons) == (state, ("reevaluate: 0.1 < 0.3",))
    assert made.metrics()[f'buckler_policy_actions_total{{action="{action}",job="reevaluate"}}'] == 1
    assert made.metrics()[f'buckler_standing{{state="{state}"}}'] == 1
    follow(PASSED, job="canary")
    assert stands(name, "2").state == state
    follow(PASSED)
    assert stands(name, "2").state == "holds"
    assert stands(name, "2").moment > found.moment
    assert [line["action"] for line in audited()] == [action, "lift"]
    assert made.metrics()['buckler_standing{state="holds"}'] == 1


@pytest.mark.parametrize(("action", "state"), [("degrade", "degraded"), ("stop", "withdrawn")])
def test_a_job_signs_its_claim_again_if_the_registry_lost_it(name, action, state):
    follow(FAILED, action)
    connect().delete_model_version_tag(name, "2", STANDING_TAG)
    follow(FAILED, "degrade")
    assert (stands(name, "2").state, stands(name, "2").sequence) == (state, 4)
    follow(FAILED, "degrade")
    assert stands(name, "2").sequence == 4


def test_what_registry_and_journal_lost_is_exported_until_it_is_there_again(name):
    follow(FAILED, job="drift")
    lost = 'buckler_signed_records_lost{where="%s"}'
    assert (made.metrics()[lost % "registry"], made.metrics()[lost % "journal"]) == (0, 0)

    connect().delete_model_version_tag(name, "2", PROMOTION_TAG)
    follow(FAILED, job="canary")  # it needs no registry
    assert made.metrics()[lost % "registry"] == 0
    follow(FAILED, job="drift")
    assert made.metrics()[lost % "registry"] == 1
    promote_release(WritableRegistry(name), number="2")
    follow(FAILED, job="drift")
    assert made.metrics()[lost % "registry"] == 0

    for path in paths.SIGNED.rglob("*.jsonl"):
        path.unlink()
    done = follow(FAILED, "stop", job="drift")
    assert "stop was not possible" in done[0]
    assert "buckler trust recover" in done[0]
    assert made.metrics()[lost % "journal"] == 1


def test_a_deleted_alias_stops_a_job_and_is_exported_all_the_same(name):
    sections = yaml.safe_load((Path(__file__).parents[3] / "params.yaml").read_text())
    with Path("params.yaml").open("a") as file:
        yaml.safe_dump({"drift": sections["drift"]}, file)
    connect().delete_registered_model_alias(name, CHAMPION)
    run = watch.run_once("drift", cfg=made.watching())
    assert (run.outcome, "has no champion" in run.message) == ("error", True)
    assert made.metrics()['buckler_signed_records_lost{where="registry"}'] == 1


def test_each_job_has_its_own_claim(name):
    follow(FAILED, "stop")
    follow(watch.Finding(False, "wrong answers", version="2"), "degrade", job="canary")
    follow(PASSED)
    assert (stands(name, "2").state, list(stands(name, "2").claims)) == ("degraded", ["canary"])


def test_a_finding_without_a_version_is_about_the_champion(name):
    follow(watch.Finding(False, "darker"), "degrade", job="probe")
    assert stands(name, "2").reasons == ("probe: darker",)
    follow(watch.Finding(True, "as ever"), job="probe")
    assert stands(name, "2").state == "holds"


def test_a_rollback_returns_to_the_last_valid_champion(name):
    (done,) = follow(FAILED, "rollback")
    assert done == "rolled back to version 1"
    assert champion(name) == "1"
    assert made.metrics()['buckler_policy_actions_total{action="rollback",job="reevaluate"}'] == 1


def test_a_version_that_is_no_longer_the_champion_is_not_rolled_back(name):
    follow(FAILED, "rollback")
    (done,) = follow(FAILED, "rollback")
    assert "no longer the champion" in done
    assert champion(name) == "1"


def test_without_a_version_to_roll_back_to_the_champion_is_degraded(name):
    restate(WritableRegistry(name), "1", "drift", standing.Claim("withdrawn", "darker"))
    (done,) = follow(FAILED, "rollback")
    assert "cannot be rolled back" in done
    assert (champion(name), stands(name, "2").state) == ("2", "degraded")
    with pytest.raises(RegistryError, match=r"version 1: version 1 of .* is withdrawn: drift: darker"):
        rollback(WritableRegistry(name))


def test_without_the_signing_key_the_log_records_the_action_that_was_not_possible(name):
    (paths.KEYS / keys.PROMOTION_PRIVATE_FILE).unlink()
    done = follow(FAILED, "alert", "rollback")
    assert "rollback was not possible" in done[0]
    assert [line["outcome"] for line in audited()] == ["done", "not done"]
    assert made.metrics()['buckler_policy_actions_total{action="rollback",job="reevaluate"}'] == 0


def test_a_degraded_version_is_not_promoted_until_a_person_lifts_the_claim(name):
    follow(FAILED, "degrade", "rollback")
    assert champion(name) == "1"
    with pytest.raises(PromotionRefusedError, match="is degraded: reevaluate"):
        promote_release(WritableRegistry(name), number="2")
    with pytest.raises(BucklerError, match="drift has no claim on version 2"):
        policy.lift("drift", "2")
    assert policy.lift("reevaluate", "2") == "lifted from version 2"
    assert promote_release(WritableRegistry(name), number="2").version == "2"


def test_a_challenger_is_promoted_automatically_only_if_the_policy_says_so(name, project):
    challenger = publish(project, name, b"three")
    renewing = watch.Finding(True, "passed", version="2", renews_days=30)
    follow(renewing)
    assert champion(name) == "2"
    follow(renewing, promote=True)
    assert champion(name) == challenger
    assert audited()[-1]["action"] == "promote"


def test_a_standing_signed_with_another_key_is_invalid(name):
    projects_key = standing.issue(standing.Standing(name, "2", "d", "v", *[datetime.now(UTC)] * 3), projects.KEY)
    WritableRegistry(name).tag("2", STANDING_TAG, projects_key)
    (reason,) = Assessor(WritableRegistry(name)).champion().reasons
    assert (reason.code, "is not valid" in reason.sentence) == ("standing", True)
    follow(watch.Finding(True, "passed", version="2", renews_days=30))  # signs a new one
    assert Assessor(WritableRegistry(name)).champion().reasons == ()
