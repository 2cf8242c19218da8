"""The service's note of its last good release, and the copy of the release beside it."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.serving.registry import registry_id
from buckler.trust import digests, promotion
from buckler.trust.promotion import PromotionRecord
from buckler.trust.public_keys import PublicKeys
from buckler.trust.verdict import open_release
from services.classifier.releases import lookup
from services.classifier.served import Candidate
from services.classifier.settings import Settings
from tests.key_files import keys_in, public_env, trusted_in
from tests.services.registry_models import change_the_weights

pytestmark = pytest.mark.slow


def kept(release: Path, keys: Path, settings: Settings, version: str) -> Candidate:
    """Copy ``release`` as a download would, and keep it as the last good one."""
    settings.releases_dir.mkdir(parents=True, exist_ok=True)
    incoming = settings.releases_dir / ".incoming-test"
    shutil.copytree(release, incoming, dirs_exist_ok=True)
    signer = keys_in(keys)
    judged = open_release(release, signer.public().verdict)
    record = PromotionRecord(
        settings.model_name, version, judged.subject_digest, judged.id, datetime.now(UTC), registry_id(), 1
    )
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in public_env(keys).items():
            patch.setenv(variable, value)
        lookup.keep(Candidate(incoming, version, promotion.issue(record, signer.private())), settings)
    found = lookup.last_good(settings, signer.public())
    assert found is not None
    return found[0]


def test_the_last_good_release_is_noted_with_its_signed_promotion(release, keys, tmp_path):
    settings = Settings(releases_dir=tmp_path / "releases")
    found = kept(release, keys, settings, "4")
    assert found.version == "4"
    assert digests.directory_digest(found.path) == digests.directory_digest(release)
    trusted = trusted_in(keys)
    assert lookup.last_good(Settings(releases_dir=settings.releases_dir, model_name="other"), trusted) is None
    stranger = PublicKeys.of(Ed25519PrivateKey.generate().public_key())
    assert lookup.last_good(settings, replace(trusted, promotion=stranger)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"version": "5"},  # the promotion is of version 4
        {"promotion": ""},
        {"promotion": "{}"},
        {"release": "../../elsewhere"},
        {"model": "other"},
    ],
)
def test_a_note_that_was_changed_is_ignored(release, keys, tmp_path, change):
    settings = Settings(releases_dir=tmp_path / "releases")
    kept(release, keys, settings, "4")
    path = settings.releases_dir / lookup.LAST_GOOD
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert lookup.last_good(settings, trusted_in(keys)) is None


def test_a_note_of_an_earlier_version_is_ignored(release, keys, tmp_path):
    settings = Settings(releases_dir=tmp_path / "releases")
    path = kept(release, keys, settings, "4").path
    note = {"model": settings.model_name, "version": "4", "release": path.name, "promoted_at": "9999-01-01T00:00:00Z"}
    (settings.releases_dir / lookup.LAST_GOOD).write_text(json.dumps(note))
    assert lookup.last_good(settings, trusted_in(keys)) is None


def test_a_damaged_kept_release_is_replaced(release, keys, tmp_path):
    settings = Settings(releases_dir=tmp_path / "releases")
    change_the_weights(kept(release, keys, settings, "4").path)
    found = kept(release, keys, settings, "4")
    assert digests.directory_digest(found.path) == digests.directory_digest(release)
