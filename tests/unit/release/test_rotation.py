"""Replaces, loses and steals signing keys, with real files, a real registry and the commands of an operator."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler import cli
from buckler.errors import BucklerError, JournalError, RegistryError
from buckler.release import signing
from buckler.release.assess import Assessor
from buckler.release.promote import promote, rollback
from buckler.release.restate import restate
from buckler.release.retire import retire_promotion_key, retire_verdict_key
from buckler.release.tracking import WritableRegistry
from buckler.serving.aliases import CHAMPION
from buckler.serving.registry import HEAD_TAG, PROMOTION_TAG, Registry
from buckler.state import paths
from buckler.trust import keys, promotion, rotation
from buckler.trust.audit import AuditLog
from buckler.trust.keys import PROMOTIONS, VERDICTS, Keys
from buckler.trust.public_keys import PublicKeys, TrustedKeys, key_id
from buckler.trust.standing import Claim
from tests import projects
from tests.key_files import write_private
from tests.unit.release.promoted import NOW, at

pytestmark = pytest.mark.slow

WITHDRAWN = Claim("withdrawn", "0.1 < 0.3")
OLD, OLD_VERDICT = key_id(projects.PROMOTION_KEY.public_key()), key_id(projects.KEY.public_key())


def write_keys(**files: Ed25519PrivateKey) -> None:
    """Write the private half as ``<name>.pem`` and the public one as ``<name>.pub``."""
    paths.KEYS.mkdir(parents=True)
    for name, key in files.items():
        write_private(paths.KEYS / f"{name}.pem", key)
        (paths.KEYS / f"{name}.pub").write_bytes(PublicKeys.of(key.public_key()).pem)


@pytest.fixture
def two(project, registry, publish) -> str:
    """Version 1, then version 2 were promoted with keys in files; version 1 is withdrawn."""
    (project / "params.yaml").write_text(f"publish: {{experiment: {registry}, model_name: {registry}}}\n")
    write_keys(verdict=projects.KEY, promotion=projects.PROMOTION_KEY)
    publish()
    promote(WritableRegistry(registry), now=at(0))
    publish(days=1, clean=90)
    promote(WritableRegistry(registry), now=at(1))
    restate(WritableRegistry(registry), "1", "drift", WITHDRAWN, now=at(1))
    return registry


def buckler(*command: str) -> None:
    assert cli.main(list(command)) == 0


def ids(name: str = "promotion.pub") -> tuple[str, ...]:
    return keys.load_public_keys(paths.KEYS / name).ids


def service(name: str, trusted: TrustedKeys) -> Assessor:
    """Return what a new service with these public keys says; it knows no journal."""
    return Assessor(Registry(name, Keys(None, trusted)), at(1), signed=signing.Records())


def distributed() -> TrustedKeys:
    """Return the public keys that a service has after they were given to it."""
    return keys.load_trusted_keys()


def rotate(role: str = "promotions") -> str:
    """Replace the key of a role without retiring the old one; return the id of the new one."""
    buckler("keys", "rotate", "--for", role)
    (new,) = rotation.Pair.of(PROMOTIONS if role == "promotions" else VERDICTS).waiting
    buckler("keys", "rotate", "--for", role, "--to", new)
    return new


# --- a key is replaced


def test_at_no_step_of_a_rotation_is_a_service_behind(two, capsys):
    before = distributed()
    buckler("keys", "rotate", "--for", "promotions")
    said = capsys.readouterr().out
    assert "give .buckler/keys/promotion.pub to every service" in said
    both = distributed()
    restate(WritableRegistry(two), "2", "probe", Claim("degraded", "slow"), now=at(1))  # still with the old key
    for trusted in (before, both):
        assert service(two, trusted).champion().codes == ("degraded",)

    (to,) = re.findall(r"then +buckler (keys rotate --for promotions --to [0-9a-f]{12})\n", said)
    buckler(*to.split())
    (then,) = re.findall(r"then +buckler (keys retire [0-9a-f]{12} --for promotions)\n", capsys.readouterr().out)
    restate(WritableRegistry(two), "2", "probe", None, now=at(1))  # with the new one
    assert service(two, both).champion().reasons == ()

    buckler(*then.split())
    said = capsys.readouterr().out
    assert "champion   version 2" in said
    assert "withdrawn  version 1: drift: 0.1 < 0.3" in said
    for trusted in (both, distributed()):
        found = service(two, trusted)
        assert found.champion().reasons == ()
        with found.opened(found.registry.version("1"), promoted=False) as (_, earlier):
            assert earlier.codes == ("withdrawn",)
    assert OLD not in ids()
    assert sorted(path.name for path in paths.KEYS.iterdir()) == [
        "promotion.pem",
        "promotion.pub",
        "verdict.pem",
        "verdict.pub",
    ]


def test_after_a_rotation_the_history_is_still_known_and_signing_goes_on(two, publish):
    restate(WritableRegistry(two), "1", "drift", None, now=at(1))
    rotate()
    buckler("keys", "retire", OLD, "--for", "promotions")
    assert [record.version for record in signing.journal_of(WritableRegistry(two)).read().history] == ["1", "2"]
    assert rollback(WritableRegistry(two), now=at(1)).version == "1"
    assert service(two, distributed()).champion().version.version == "1"
    publish(days=1, clean=95)
    assert promote(WritableRegistry(two), now=at(1)).version == "3"


def test_rotating_again_prints_what_waits_and_makes_no_third_key(two, capsys):
    buckler("keys", "rotate", "--for", "promotions")
    first = capsys.readouterr().out
    buckler("keys", "rotate", "--for", "promotions")
    assert capsys.readouterr().out == first
    assert len(ids()) == 2


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (["rotate", "--for", "promotions", "--to", "0123456789ab"], "expected the id of a key in"),
        (["rotate", "--for", "promotions", "--to", "new"], "expected the id of a key in"),
        (["retire", OLD, "--for", "promotions"], "let another one sign first"),
        (["retire", OLD, "--for", "verdicts"], "expected the id of a key in"),
        (["retire", "0123456789ab", "--for", "promotions"], "expected the id of a key in"),
        (["retire", rotation.short(OLD)[:6], "--for", "promotions"], "expected the id of a key in"),
        (["retire", OLD_VERDICT, "--for", "verdicts"], "let another one sign first"),
        (["init", "--for", "promotions"], "never overwritten"),
    ],
)
def test_a_wrong_order_is_refused_and_changes_nothing(two, capsys, command, error):
    before = {path.name: path.read_bytes() for path in paths.KEYS.iterdir()}
    assert cli.main(["keys", *command]) == 2
    assert error in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in paths.KEYS.iterdir()} == before


def test_an_earlier_key_is_retired_before_the_next_rotation(two, capsys):
    rotate()
    assert cli.main(["keys", "rotate", "--for", "promotions"]) == 2
    assert f"retire it first: `buckler keys retire {rotation.short(OLD)} --for promotions`" in capsys.readouterr().err


def test_a_switched_key_can_be_switched_back_until_it_is_retired(two):
    new = rotate()
    restate(WritableRegistry(two), "2", "probe", Claim("degraded", "slow"), now=at(1))
    buckler("keys", "rotate", "--for", "promotions", "--to", OLD)
    restate(WritableRegistry(two), "2", "probe", None, now=at(1))
    assert service(two, distributed()).champion().reasons == ()
    buckler("keys", "rotate", "--for", "promotions", "--to", new)
    buckler("keys", "retire", OLD, "--for", "promotions")
    assert service(two, distributed()).champion().reasons == ()


def test_a_project_without_a_promotion_key_gets_one_by_rotation(project, registry, publish):
    (project / "params.yaml").write_text(f"publish: {{experiment: {registry}, model_name: {registry}}}\n")
    write_keys(verdict=projects.KEY)
    publish()
    promote(WritableRegistry(registry), now=at(0))
    assert cli.main(["keys", "rotate", "--for", "verdicts"]) == 2  # it would rotate both
    assert cli.main(["keys", "init", "--for", "promotions"]) == 2  # it would devalue the promotion
    before = distributed()
    buckler("keys", "rotate", "--for", "promotions")
    restate(WritableRegistry(registry), "1", "drift", None, now=at(1))  # still with the verdict key
    assert service(registry, before).champion().reasons == ()
    (new,) = rotation.Pair.of(PROMOTIONS).waiting
    buckler("keys", "rotate", "--for", "promotions", "--to", new)
    buckler("keys", "retire", OLD_VERDICT, "--for", "promotions")
    assert distributed() == TrustedKeys(projects.PUBLIC, PublicKeys.of(keys.load_signing_key(PROMOTIONS).public_key()))
    assert service(registry, distributed()).champion().reasons == ()
    assert keys.key_id(keys.load_signing_key().public_key()) == OLD_VERDICT


def test_a_key_moves_from_a_file_to_a_token(two, softhsm, monkeypatch, capsys):
    softhsm.add_token(two)
    uri = softhsm.uri(two, "promotion")
    buckler("keys", "init", "--for", "promotions", "--pkcs11", uri, "--directory", "next")
    buckler("keys", "rotate", "--for", "promotions", "--public", "next/promotion.pub")
    assert "set BUCKLER_PROMOTION_SIGNING_KEY to the URI" in capsys.readouterr().out
    restate(WritableRegistry(two), "2", "probe", None, now=at(1))  # still with the file
    monkeypatch.setenv("BUCKLER_PROMOTION_SIGNING_KEY", uri)
    assert cli.main(["keys", "rotate", "--for", "promotions"]) == 2  # the old one is still trusted
    buckler("keys", "retire", OLD, "--for", "promotions")
    assert service(two, distributed()).champion().reasons == ()
    assert not (paths.KEYS / "promotion.pem").exists()
    assert cli.main(["keys", "rotate", "--for", "promotions"]) == 2
    assert "is in a token" in capsys.readouterr().err


# --- an interruption


class KilledError(BaseException):
    """The process was killed here."""


@contextmanager
def killed_at(call: int) -> Iterator[None]:
    """End what runs in the context, as a crash would, before the file that is renamed as the ``call``-th one."""
    rename, count = Path.replace, iter(range(1, 99))

    def replace(path: Path, target: Path) -> Path:
        if next(count) == call:
            raise KilledError
        return rename(path, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        yield


@pytest.mark.parametrize("call", [1, 2])
def test_an_interrupted_rotation_is_finished_by_the_same_command(two, call):
    with killed_at(call), pytest.raises(KilledError):
        rotation.begin(PROMOTIONS)
    restate(WritableRegistry(two), "2", "probe", None, now=at(1))
    rotation.begin(PROMOTIONS)
    assert len(ids()) == 2
    assert len(list(paths.KEYS.glob("promotion.*.pem"))) == 1
    with killed_at(1), pytest.raises(KilledError):
        rotation.switch(PROMOTIONS, ids()[-1])
    restate(WritableRegistry(two), "2", "probe", None, now=at(1))
    assert rotation.switch(PROMOTIONS, ids()[-1]).signing == ids()[-1]
    restate(WritableRegistry(two), "2", "probe", None, now=at(1))


@pytest.mark.parametrize("call", [1, 2])
def test_an_interrupted_retirement_is_finished_by_the_same_command(two, call):
    rotate()
    with killed_at(call), pytest.raises(KilledError):
        retire_promotion_key(WritableRegistry(two), OLD, now=at(1))
    restate(WritableRegistry(two), "2", "probe", None, now=at(1))  # the signer goes on
    retired(two)


def test_a_retirement_without_the_registry_is_finished_later(two, monkeypatch):
    rotate()
    with monkeypatch.context() as patch:
        patch.setenv("BUCKLER_REGISTRY_ID", "local")
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(RegistryError):
            retire_promotion_key(WritableRegistry(two), OLD, now=at(1))
    assert service(two, distributed()).champion().codes == ("not_promoted",)
    retired(two)


def retired(name: str) -> None:
    retire_promotion_key(WritableRegistry(name), OLD, now=at(1))
    assert OLD not in ids()
    assert not list(paths.KEYS.glob("promotion.*.pem"))
    assert service(name, distributed()).champion().reasons == ()


# --- a key is lost


def test_a_lost_promotion_key_is_replaced_without_it(two):
    (paths.KEYS / "promotion.pem").unlink()
    with pytest.raises(BucklerError, match="its private half is not here"):
        rollback(WritableRegistry(two), now=at(1))
    rotate()
    buckler("keys", "retire", OLD, "--for", "promotions")
    found = service(two, distributed())
    assert found.champion().reasons == ()
    with found.opened(found.registry.version("1"), promoted=False) as (_, earlier):
        assert earlier.codes == ("withdrawn",)


# --- a key is stolen


def stolen(name: str, number: str, sequence: int) -> str:
    """Write a promotion that a thief of the promotion key signed, everywhere in the registry; return its text."""
    entry = WritableRegistry(name).version(number)
    record = promotion.PromotionRecord(name, number, entry.digest, entry.verdict, NOW, "local", sequence)
    text = promotion.issue(record, projects.PROMOTION_KEY)
    registry = WritableRegistry(name)
    registry.tag(number, PROMOTION_TAG, text)
    registry.tag_model(PROMOTION_TAG, text)
    registry.tag_model(HEAD_TAG, text)
    registry.set_alias(CHAMPION, number)
    return text


def test_what_a_thief_of_the_promotion_key_signed_is_worth_nothing_after_its_retirement(two, publish):
    publish(days=1, clean=75)  # passes its gate, and is worse than the champion
    text = stolen(two, "3", 900)
    assert service(two, distributed()).champion().reasons == ()  # the thief's version serves
    with pytest.raises(JournalError, match="lacks record 900"):
        rollback(WritableRegistry(two), now=at(1))
    rotate()
    buckler("keys", "retire", OLD, "--for", "promotions")
    found = service(two, distributed())
    assert (found.champion().version.version, found.champion().reasons) == ("2", ())
    for number, codes in (("1", ("withdrawn",)), ("3", ("not_promoted",))):
        with found.opened(found.registry.version(number), promoted=number == "3") as (_, other):
            assert other.codes == codes
    with pytest.raises(BucklerError, match="is withdrawn"):
        promote(WritableRegistry(two), number="1", now=at(1))
    assert text not in [entry.text for entry in signing.journal_of(WritableRegistry(two)).read().entries]
    publish(days=1, clean=95)
    assert promote(WritableRegistry(two), now=at(1)).version == "4"
    assert service(two, distributed()).champion().reasons == ()


def test_a_line_that_a_thief_adds_with_the_retired_key_stops_the_signer(two, publish):
    rotate()
    buckler("keys", "retire", OLD, "--for", "promotions")
    kept = signing.journal_of(WritableRegistry(two))
    head, number = AuditLog(kept.path).head(), kept.read().highest + 1
    entry = WritableRegistry(two).version("1")
    record = promotion.PromotionRecord(two, "1", entry.digest, entry.verdict, NOW, "local", number, head.digest)
    AuditLog(kept.path).append({"record": promotion.issue(record, projects.PROMOTION_KEY)}, after=head)
    with pytest.raises(JournalError, match="signed with a retired key, and no later one covers them"):
        rollback(WritableRegistry(two), now=at(1))


def test_a_thiefs_line_in_the_middle_of_the_journal_breaks_it(two):
    rotate()
    buckler("keys", "retire", OLD, "--for", "promotions")
    path = signing.journal_of(WritableRegistry(two)).path
    first, *rest = path.read_text().splitlines(keepends=True)
    path.write_text("".join([first, *rest[1:]]))  # the promotion of version 2 left out
    with pytest.raises(JournalError):
        rollback(WritableRegistry(two), now=at(1))


def test_a_stolen_verdict_key_is_retired_at_once_or_after_a_new_release(two, publish):
    rotate("verdicts")
    with pytest.raises(BucklerError, match="signed the verdict of the champion, version 2"):
        retire_verdict_key(WritableRegistry(two), OLD_VERDICT)
    retire_verdict_key(WritableRegistry(two), OLD_VERDICT, stolen=True)
    assert service(two, distributed()).champion().codes == ("signature",)
    forged = publish(days=1, clean=99)  # by the thief: the fixture signs with the old key
    with pytest.raises(BucklerError, match="with a key of another role"):
        promote(WritableRegistry(two), number=forged, now=at(1))
    new = keys.load_signing_key()
    verdict = projects.build(projects.make_project(Path.cwd(), clean=95), name=two, key=new)
    number = projects.publish(Path.cwd(), verdict, two)
    with pytest.raises(BucklerError, match="--without-comparison"):  # the champion's evidence proves nothing any more
        promote(WritableRegistry(two), number=number)
    promote(WritableRegistry(two), number=number, without_comparison=True)
    assert Assessor(Registry(two)).champion().reasons == ()


def test_a_verdict_key_that_no_live_release_needs_is_retired(two):
    rotate("verdicts")
    verdict = projects.build(projects.make_project(Path.cwd(), clean=95), name=two, key=keys.load_signing_key())
    number = projects.publish(Path.cwd(), verdict, two)
    promote(WritableRegistry(two), number=number)
    buckler("keys", "retire", OLD_VERDICT, "--for", "verdicts")
    assert Assessor(Registry(two)).champion().reasons == ()
    assert signing.lost(signing.journal_of(WritableRegistry(two)).read(), WritableRegistry(two)) == ()
