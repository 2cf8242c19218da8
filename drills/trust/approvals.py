"""Whoever has the key of promotions, where two people must approve each of them."""

from functools import partial

from buckler.serving.registry import APPROVAL_TAG
from buckler.trust import keys
from buckler.trust.approvers import APPROVERS_ENV, REQUIRED_ENV
from buckler.trust.verdict import open_release
from drills.registry import NAME
from drills.trust.stage import Stage, client, observing, tags_of

PEOPLE = ("alice", "bob")
REFUSAL = "of 2 people must approve"


def approvals(trust: Stage) -> None:
    """Promote without approvals, with one, with those of another version, and past the command; last in a drill."""
    registry, people = trust.scene.registry, trust.scene.directory / "approvers"
    for person in PEOPLE:
        keys.generate_key_pair(people, keys.approvals_by(person))
    registry.env |= {APPROVERS_ENV: str(people), REQUIRED_ENV: str(len(PEOPLE))}
    approved = trust.scene.publish()
    _refused(trust, "promotes without approvals", approved)
    for person in PEOPLE:
        key = str(people / f"{person}.pem")
        trust.signs("approve", "--version", approved, "--as", person, "--key", key, "--yes")
        if person != PEOPLE[-1]:
            _refused(trust, "promotes with one approval of two", approved)
    trust.signs("promote", "--version", approved)
    path = trust.scene.builder.build()
    version = registry.register(path)
    for name, text in tags_of(approved).items():
        if name.startswith(APPROVAL_TAG):
            client().set_model_version_tag(NAME, version, name, text)
    _refused(trust, "promotes with the approvals of another version", version)
    with trust.scene.service(name="approved") as service, observing(service) as observer:
        promote = partial(registry.sign_promotion, version, open_release(path, registry.trusted.verdict))
        attack = "signs the promotion past the command, with the promotion key"
        trust.service_refuses(service, attack, promote, "not_approved")
    found = (observer.versions, observer.failed, observer.wrong())
    trust.drill.require(found == ([approved], 0, 0), f"expected answers of {approved}, none lost or wrong, got {found}")


def _refused(trust: Stage, attack: str, version: str) -> None:
    trust.signer_refuses(f"{attack}, where two people must", "promote", "--version", version, says=REFUSAL)
