"""What a signer cannot detect, as the threat model states: every witness of what was signed was put back."""

import shutil

import pytest

from buckler.release import signing
from buckler.release.promote import rollback
from buckler.release.restate import restate
from buckler.serving.registry import HEAD_TAG, STANDING_TAG, connect
from buckler.state import paths
from buckler.trust.standing import Claim
from tests.unit.release.promoted import at, promote, registry_of

pytestmark = pytest.mark.slow


def test_a_withdrawal_that_journal_registry_and_watch_lost_is_lost(registry, publish):
    publish()
    promote(registry)
    publish(days=1, clean=90)
    promote(registry, days=1)
    journal = signing.journal_of(registry_of(registry)).path
    before, head = journal.read_bytes(), registry_of(registry).champion().head
    restate(registry_of(registry), "1", "reevaluate", Claim("withdrawn", "0.1 < 0.3"), now=at(2))

    journal.write_bytes(before)
    connect().delete_model_version_tag(registry, "1", STANDING_TAG)
    registry_of(registry).tag_model(HEAD_TAG, head)
    shutil.rmtree(paths.SIGNED_HEADS)
    assert signing.compare(registry_of(registry)) == signing.Comparison((), ())
    assert rollback(registry_of(registry), now=at(3)).version == "1"
