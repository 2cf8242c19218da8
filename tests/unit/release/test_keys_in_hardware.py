"""A project whose keys are in a token: signed by the commands that a person uses, verified without the token."""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from buckler import cli
from buckler.release.restate import restate
from buckler.release.tracking import WritableRegistry
from buckler.serving.aliases import CHAMPION
from buckler.state import paths
from buckler.trust import keys
from buckler.trust.standing import Claim
from buckler.trust.verdict import VERDICT_FILE
from tests import projects
from tests.softhsm import SoftHSM, module

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


@pytest.fixture
def token(softhsm: SoftHSM, registry: str) -> str:
    softhsm.add_token(registry)
    return registry


@pytest.fixture
def published(project, registry, token, softhsm, fake_networks, monkeypatch):
    """A published version that passed, in a project without a file of a private key; the function publishes another."""
    (project / "params.yaml").write_text(f"publish: {{experiment: {registry}, model_name: {registry}}}\n")
    for role in (keys.VERDICTS, keys.PROMOTIONS):
        uri = softhsm.uri(token, role.name)
        assert cli.main(["keys", "init", "--for", role.name, "--pkcs11", uri]) == 0
        monkeypatch.setenv(role.signing_env, uri)

    def publish(**results):
        projects.make_project(project, **results)
        key, created = keys.load_or_create_signing_key()
        assert not created
        return projects.publish(project, projects.build(project, name=registry, key=key), registry)

    publish()
    return publish


def verify(envelope: str, public_file: str) -> None:
    """Verify a DSSE envelope as a stranger does: with `cryptography` and a file in PEM form."""
    sealed = json.loads(envelope)
    kind, payload = sealed["payloadType"].encode(), base64.b64decode(sealed["payload"])
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    public = load_pem_public_key((paths.KEYS / public_file).read_bytes())
    public.verify(base64.b64decode(sealed["signatures"][0]["sig"]), signed)


def test_verdict_promotion_roll_back_standing_and_recovery_are_signed_by_the_token(
    published, registry, project, capsys
):
    assert cli.main(["promote"]) == 0
    published(weights=b"other")
    assert cli.main(["promote"]) == 0
    assert cli.main(["rollback"]) == 0
    restate(WritableRegistry(registry), "1", "probe", Claim("degraded", "slow"))
    shutil.rmtree(paths.SIGNED)
    assert cli.main(["trust", "recover", "--by", "A. Person", "--reason", "a lost disk"]) == 0
    capsys.readouterr()
    assert cli.main(["champion"]) == 1
    assert "yes, every answer for review" in capsys.readouterr().out  # authentic, promoted, and degraded by the token

    entry = WritableRegistry(registry).version("1")
    for record in (entry.promotion, entry.standing, entry.head):
        verify(record, "promotion.pub")
        with pytest.raises(InvalidSignature):
            verify(record, "verdict.pub")
    verify((project / "models/release" / VERDICT_FILE).read_text(), "verdict.pub")
    assert sorted(path.name for path in paths.KEYS.iterdir()) == ["promotion.pub", "verdict.pub"]
    assert not [path for path in project.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]


def test_no_promotion_is_signed_while_the_token_is_away(published, registry, softhsm, monkeypatch, capsys):
    monkeypatch.setenv(keys.PROMOTIONS.signing_env, softhsm.uri("away"))
    assert cli.main(["promote"]) == 2
    assert "BUCKLER_PROMOTION_SIGNING_KEY: expected a token with token='away'" in capsys.readouterr().err
    assert WritableRegistry(registry).by_alias(CHAMPION) is None


def test_the_page_says_how_to_try_it_without_hardware(tmp_path):
    blocks = (ROOT / "docs/how-to/keys.md").read_text().split("```")[1::2]
    (softhsm,) = [block for block in blocks if "softhsm2-util" in block]
    (create,) = [block for block in blocks if "keys public" in block]
    script = softhsm.replace("/usr/lib/softhsm/libsofthsm2.so", str(module())) + create
    program = f'buckler() {{ {sys.executable} -m buckler.cli "$@"; }}\nset -euo pipefail\n{script}'
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    subprocess.run(["bash", "-c", program], cwd=tmp_path, env=environment, check=True, timeout=120)
    assert (tmp_path / "promotion.pub").read_text() == (tmp_path / paths.KEYS / "promotion.pub").read_text()


class TestCommands:
    def test_a_pair_is_created_once_and_its_public_half_can_be_printed_again(self, project, token, softhsm, capsys):
        uri = softhsm.uri(token, "mine")
        assert cli.main(["keys", "init", "--for", "promotions", "--pkcs11", uri]) == 0
        assert "set BUCKLER_PROMOTION_SIGNING_KEY to its URI" in capsys.readouterr().out
        assert cli.main(["keys", "public", uri]) == 0
        assert capsys.readouterr().out == (paths.KEYS / "promotion.pub").read_text()
        assert cli.main(["keys", "init", "--for", "promotions", "--pkcs11", uri]) == 2
        assert "never overwritten" in capsys.readouterr().err

    def test_no_key_is_created_whose_public_half_cannot_be_written(self, project, token, softhsm, capsys):
        keys.generate_key_pair(paths.KEYS, keys.PROMOTIONS)
        uri = softhsm.uri(token, "mine")
        assert cli.main(["keys", "init", "--for", "promotions", "--pkcs11", uri]) == 2
        assert "promotion.pem exists" in capsys.readouterr().err
        assert cli.main(["keys", "public", uri]) == 2
        assert "expected one private key" in capsys.readouterr().err

    def test_a_uri_names_one_pair(self, project, token, softhsm, capsys):
        assert cli.main(["keys", "init", "--pkcs11", softhsm.uri(token)]) == 2
        assert "--for" in capsys.readouterr().err

    def test_the_public_half_of_a_file_is_printed_too(self, project, capsys):
        keys.generate_key_pair(paths.KEYS)
        assert cli.main(["keys", "public", str(paths.KEYS / keys.PRIVATE_KEY_FILE)]) == 0
        assert capsys.readouterr().out == (paths.KEYS / keys.PUBLIC_KEY_FILE).read_text()


def test_a_person_approves_with_a_key_in_a_token(published, registry, token, softhsm, monkeypatch, capsys):
    uri = softhsm.uri(token, "alice")
    assert cli.main(["keys", "init", "--for", "approvals", "--as", "alice", "--pkcs11", uri]) == 0
    assert not list(paths.APPROVERS.glob("*.pem"))
    monkeypatch.setenv("BUCKLER_SIGNATURES", "1")
    assert cli.main(["promote"]) == 1
    assert "alice: `buckler approve --version 1 --as alice`" in capsys.readouterr().err
    assert cli.main(["approve", "--as", "alice", "--key", uri, "--yes"]) == 0
    assert cli.main(["promote"]) == 0
    assert cli.main(["champion"]) == 0
    verify(WritableRegistry(registry).champion().approvals["alice"], "approvers/alice.pub")
