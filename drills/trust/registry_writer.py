"""Whoever can write the model registry: aliases, tags, versions, and the whole database."""

import socket
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from buckler.release import tracking
from buckler.release.restate import restate
from buckler.serving.aliases import CHAMPION
from buckler.serving.registry import DIGEST_TAG, HEAD_TAG, PROMOTION_TAG, REGISTRY_ENV, STANDING_TAG, VERDICT_TAG
from buckler.trust.journal import JOURNAL_ENV
from buckler.trust.standing import Claim
from buckler.trust.verdict import open_release
from drills.registry import NAME
from drills.report import Drill
from drills.scene import DrillScene
from drills.service import RunningService
from drills.trust.alerts import Watched, watched_service
from drills.trust.stage import (
    Observer,
    Stage,
    answered,
    client,
    mlflow_server,
    model_tags,
    observing,
    set_alias,
    stage,
    tags_of,
)

WITHDRAWN = Claim("withdrawn", "robust accuracy 0.1 < 0.3")
ATTACKER = "127.0.0.2"  # another host than the registry's


@dataclass(frozen=True, slots=True)
class Attacked:
    """What is attacked, and the versions in the registry.

    Attributes:
        champion: Serves.
        rolled_back: Was champion until a roll-back, and is withdrawn later.
        failed: Failed its gate.
        worse: Passed its gate, and would lose the comparison with the champion.
        good: Has not been promoted yet.
    """

    trust: Stage
    service: RunningService
    watched: Watched
    champion: str
    rolled_back: str
    failed: str
    worse: str
    good: str


def registry_writer(scene: DrillScene, drill: Drill) -> None:
    """Whatever is written to the registry by hand, only what the signer signed last for this registry serves."""
    with stage(scene, drill) as trust:
        champion, rolled_back = trust.champion(), trust.champion()
        trust.signs("rollback")
        failed = scene.registry.register(scene.builder.build(failing=True))
        worse = scene.registry.register(scene.builder.build(worse=True))
        good = scene.publish()
        with watched_service(scene) as (service, watched), observing(service) as observer:
            attacked = Attacked(trust, service, watched, champion, rolled_back, failed, worse, good)
            _aliases(attacked)
            _standing(attacked)
            _tags(attacked)
            _no_alias(attacked)
            _staging(attacked)
            _elsewhere(attacked)
            _earlier_database(attacked, observer)
            _reused_numbers(attacked)
            observer.wait(4)
            drill.figures |= watched.seconds()
        answered(drill, observer, (champion, good))


def _aliases(on: Attacked) -> None:
    refuses = partial(on.trust.service_refuses, on.service)
    on.watched.expect("BucklerModelRefused")
    to = partial(set_alias, on.rolled_back)
    refuses("sets the alias back to a version that was rolled back", to, "superseded")
    refuses("sets it to a version that failed its gate", partial(set_alias, on.failed), "failed", "not_promoted")
    refuses("sets it to a worse version, with a copied promotion", partial(_pretend, on), "not_promoted")
    began = time.monotonic()
    done = on.trust.buckler("rollback")
    version = on.trust.scene.registry.champion()
    on.trust.expect(
        "marks that version as a former champion before a roll-back",
        "signer",
        f"goes to version {version}",
        (done.code, version) == (0, on.champion),
        f"expected a roll-back to version {on.champion}, got version {version}: {done.errors.strip()}",
        time.monotonic() - began,
    )


def _pretend(on: Attacked) -> None:
    """Make the worse version look like a former champion, and the champion."""
    registry = client()
    registry.set_model_version_tag(NAME, on.worse, PROMOTION_TAG, tags_of(on.champion)[PROMOTION_TAG])
    registry.set_model_version_tag(NAME, on.worse, "buckler.promoted_at", "9999-01-01T00:00:00+00:00")
    set_alias(on.worse)


def _standing(on: Attacked) -> None:
    restate(on.trust.scene.registry.model, on.rolled_back, "reevaluate", WITHDRAWN)
    client().delete_model_version_tag(NAME, on.rolled_back, STANDING_TAG)
    attack = "deletes the withdrawal of a version before its promotion"
    on.trust.signer_refuses(attack, "promote", "--version", on.rolled_back, says="is withdrawn")


def _tags(on: Attacked) -> None:
    delete = partial(client().delete_model_version_tag, NAME, on.champion, PROMOTION_TAG)
    on.trust.service_refuses(on.service, "deletes the champion's promotion", delete, "not_promoted")
    attack = "deletes it before another version is promoted"
    on.trust.signer_refuses(attack, "promote", "--version", on.good, says="lacks record")
    delete = partial(client().delete_registered_model_tag, NAME, HEAD_TAG)
    on.trust.service_refuses(on.service, "deletes the last signed record of the model", delete, "put_back")
    on.watched.expect("BucklerSignedRecordsLost")
    on.watched.compare(on.trust)
    on.trust.signs("promote", "--version", on.champion)  # the repair that the runbook names
    tags = {PROMOTION_TAG: tags_of(on.champion), STANDING_TAG: tags_of(on.rolled_back), HEAD_TAG: model_tags()}
    missing = [tag for tag, present in tags.items() if tag not in present]
    on.trust.drill.require(not missing, f"a promotion of the champion did not write {missing} again")


def _no_alias(on: Attacked) -> None:
    client().delete_registered_model_alias(NAME, CHAMPION)
    says = f"the champion is none instead of version {on.champion}"
    attack = "deletes the alias before a worse version is promoted"
    on.trust.signer_refuses(attack, "promote", "--version", on.worse, says=says)
    on.trust.signs("promote", "--version", on.champion)
    attack = "asks for the worse version once more"
    on.trust.signer_refuses(attack, "promote", "--version", on.worse, says="significantly below")


def _staging(on: Attacked) -> None:
    """Copy the record of a promotion that the same key signed for a copy of the registry."""
    directory = on.trust.scene.directory
    copy_database(on.trust.database, directory / "staging.db")
    with mlflow_server(directory / "staging.db", on.trust.artifacts) as url:
        env = {"MLFLOW_TRACKING_URI": url, REGISTRY_ENV: "staging", JOURNAL_ENV: str(directory / "staging-signed")}
        on.trust.signs("promote", "--version", on.good, **env)
        staging = client().__class__(url)
        record = staging.get_model_version(NAME, on.good).tags[PROMOTION_TAG]

    def copy() -> None:
        client().set_model_version_tag(NAME, on.good, PROMOTION_TAG, record)
        set_alias(on.good)

    on.trust.service_refuses(on.service, "copies a promotion that was signed for staging", copy, "not_promoted")
    client().delete_model_version_tag(NAME, on.good, PROMOTION_TAG)
    set_alias(on.champion)


def _elsewhere(on: Attacked) -> None:
    """Name a server of the attacker as the source of a version; it must not even be connected to.

    MLflow's server refuses such a source by default, so it is written into the database.
    """
    with socket.create_server((ATTACKER, 0)) as server:
        server.setblocking(False)
        source = f"http://{ATTACKER}:{server.getsockname()[1]}/api/2.0/mlflow-artifacts/artifacts/1"
        with closing(sqlite3.connect(on.trust.database)) as database, database:
            change = "UPDATE model_versions SET source = ?, storage_location = ? WHERE version = ?"
            database.execute(change, (source, source, on.failed))
        name = partial(set_alias, on.failed)
        attack = "names a server of its own as the source of a version"
        on.trust.service_refuses(on.service, attack, name, "not_promoted", "source")
        attack = "the same, before that version is promoted"
        on.trust.signer_refuses(attack, "promote", "--version", on.failed, says="is not allowed")
        with suppress(BlockingIOError):
            server.accept()
            on.trust.drill.require(False, "the attacker's server was connected to")
    set_alias(on.champion)


def _earlier_database(on: Attacked, observer: Observer) -> None:
    earlier = on.trust.scene.directory / "earlier.db"
    copy_database(on.trust.database, earlier)
    on.trust.signs("promote", "--version", on.good)
    observer.wait_for(on.good)
    # Two records later: a registry that ends one record before the journal is an interrupted promotion, and finished.
    restate(on.trust.scene.registry.model, on.rolled_back, "drift", None)
    put_back = partial(copy_database, earlier, on.trust.database)
    on.trust.service_refuses(on.service, "puts the whole database back to an earlier copy", put_back, "put_back")
    says = f"the champion is version {on.champion} instead of version {on.good}"
    attack = "puts it back before another version is promoted"
    on.trust.signer_refuses(attack, "promote", "--version", on.worse, says=says)
    on.trust.signs("promote", "--version", on.good)


def _reused_numbers(on: Attacked) -> None:
    """Register other releases under all numbers, with every tag of the versions before and of the model."""
    scene = on.trust.scene
    path = scene.builder.build()
    made = open_release(path, scene.registry.trusted.verdict)
    run = tracking.start_run(NAME, "drill", {})
    uri = tracking.log_release(run, path, labels=made.measured["labels"], shape=(1, 1, 3))
    tracking.finish_run(run)
    numbers = sorted((entry.version for entry in scene.registry.model.versions()), key=int)
    tags, of_model = {number: tags_of(number) for number in numbers}, model_tags()
    own = {DIGEST_TAG: made.subject_digest, VERDICT_TAG: made.id}

    def reuse() -> None:
        client().delete_registered_model(NAME)
        for number in numbers:
            scene.registry.model.register(uri, tags={**tags[number], **own}, description="drill")
        for tag, text in of_model.items():
            client().set_registered_model_tag(NAME, tag, text)
        set_alias(on.good)

    on.trust.service_refuses(on.service, "registers another release under the champion's number", reuse, "not_promoted")
    says = f"version {on.good} has the verdict"
    attack = "reuses all numbers before a version is promoted"
    on.trust.signer_refuses(attack, "promote", "--version", on.champion, says=says)


def copy_database(source: Path, target: Path) -> None:
    """Put a copy of an SQLite database in the place of another, while servers use both."""
    with closing(sqlite3.connect(source)) as before, closing(sqlite3.connect(target)) as after:
        before.backup(after)
