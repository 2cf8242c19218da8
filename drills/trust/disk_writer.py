"""Whoever can write the signer's disk: the journal of what was signed, but not the signing key."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from buckler.release import signing
from buckler.release.restate import restate
from buckler.serving.registry import HEAD_TAG
from buckler.trust.standing import Claim
from drills.report import Drill
from drills.scene import DrillScene
from drills.service import wait_until
from drills.trust.alerts import Watched, watched_service
from drills.trust.stage import PATIENCE, Stage, answered, model_tags, observing, stage

WITHDRAWN = Claim("withdrawn", "robust accuracy 0.1 < 0.3")
PERSON = "Erika Muster"
LACKS, BROKEN = "lacks record", "is not valid"


def disk_writer(scene: DrillScene, drill: Drill) -> None:
    """Nothing is signed with a journal that was cut, deleted, changed or put back, until a named person recovers it."""
    with stage(scene, drill) as trust:
        withdrawn, champion = trust.champion(), trust.champion()
        journal = signing.journal_of(scene.registry.model).path
        earlier = scene.directory / "earlier.jsonl"
        shutil.copyfile(journal, earlier)
        with watched_service(scene) as (service, watched), observing(service) as observer:
            restate(scene.registry.model, withdrawn, "reevaluate", WITHDRAWN)
            attacks: dict[str, tuple[str, Callable[[], object]]] = {
                "cuts a withdrawal off the end of the journal": (LACKS, lambda: cut(journal)),
                "deletes the journal": (LACKS, journal.unlink),
                "changes one line": (BROKEN, lambda: change_a_line(journal)),
                "puts an earlier copy back": (LACKS, lambda: shutil.copyfile(earlier, journal)),
            }
            for name, (says, attack) in attacks.items():
                attack()
                trust.signer_refuses(f"{name}, before a roll-back", "rollback", says=says)
                if name == next(iter(attacks)):
                    _every_command(trust, watched, champion, withdrawn)
                _recovered(trust, name, withdrawn)
            trust.signs("promote", "--version", champion)
            observer.wait(4)
        answered(drill, observer, (champion,))


def cut(journal: Path) -> None:
    """Cut the last line off, which leaves a valid chain."""
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))


def change_a_line(journal: Path) -> None:
    """Change one character of the first record."""
    content = journal.read_bytes()
    place = content.index(b"payload") + 30
    journal.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


def _every_command(trust: Stage, watched: Watched, champion: str, withdrawn: str) -> None:
    """All that signs is refused, the withdrawal included; the watch finds it."""
    trust.signer_refuses("the same, before a promotion", "promote", "--version", champion, says=LACKS)
    lift = ("champion", "--lift", "reevaluate", "--version", withdrawn)
    trust.signer_refuses("the same, before the claim is lifted", *lift, says=LACKS)
    trust.signer_refuses("recovers it without a name", "trust", "recover", "--by", " ", "--reason", "x", says="a name")
    if watched.running is None:
        return
    began, running = time.monotonic(), watched.running
    watched.compare(trust)
    wait_until(lambda: running.watched("buckler_signed_records_lost", where="journal") > 0, PATIENCE, "the metric")
    seconds = time.monotonic() - began
    trust.record("the same, when the watch compares", "watch", "buckler_signed_records_lost", seconds)


def _recovered(trust: Stage, attack: str, withdrawn: str) -> None:
    """A named person recovers the journal; the withdrawal stands, and the record names the person."""
    trust.signs("trust", "recover", "--by", PERSON, "--reason", f"drill: somebody {attack}")
    head = signing.shown(trust.scene.registry.model).last
    person = getattr(head.record, "person", "") if head else ""
    trust.drill.require(person == PERSON, f"{attack}: expected a recovery signed for {PERSON}, got {person!r}")
    trust.drill.require(HEAD_TAG in model_tags(), f"{attack}: the recovery is not in the registry")
    trust.signer_refuses(f"{attack}, after the recovery", "promote", "--version", withdrawn, says="is withdrawn")
