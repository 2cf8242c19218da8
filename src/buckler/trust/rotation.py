"""Replaces the key pair of a role in steps, so that no verifier is ever behind the signer.

    verdict.pem            signs
    verdict.0123456789ab.pem   a key that does not sign yet, or no longer; named after its public half
    verdict.pub            every trusted public key, in the order in which they were added

`begin` adds a key to the trusted ones, `switch` makes it sign, `drop` removes another. Each step can be repeated after
an interruption, and between two of them verification and signing work.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.errors import BucklerError
from buckler.state import files, paths
from buckler.trust import hardware, journal, keys
from buckler.trust.keys import PROMOTIONS, VERDICTS, Role
from buckler.trust.public_keys import PublicKeys, key_id

PUBLIC_MODE = 0o644
SHORT = 12  # hexadecimal digits of an id in the name of a file
_ID = re.compile(rf"(?:sha256:)?([0-9a-f]{{{SHORT},64}})")


@dataclass(frozen=True, slots=True)
class Pair:
    """The keys of a role on this machine.

    Attributes:
        role: What they sign.
        private: File of the key that signs; None if it is in a token.
        public: File of the trusted public keys.
        trusted: Its content.
        signing: Id of the key that signs; None if it is lost.
    """

    role: Role
    private: Path | None
    public: Path
    trusted: PublicKeys
    signing: str | None

    @classmethod
    def of(cls, role: Role) -> "Pair":
        """Read the keys of ``role``.

        Raises:
            BucklerError: There are no trusted keys, a file is damaged, or nobody trusts the key that signs.
        """
        named = role.signing_key or str(paths.KEYS / role.private_file)
        private = None if hardware.is_uri(named) else Path(named)
        public = role.public_keys or paths.KEYS / role.public_file
        trusted, signing = keys.load_public_keys(public, named_by=role.public_env), None
        if private is None or private.exists():
            signing = key_id(keys.open_signing_key(named, named_by=role.signing_env).public_key())
        if signing and signing not in trusted.ids:
            raise BucklerError(
                f"expected the key that signs {role.name} to be one of those in {public} ({trusted}), it is {signing}"
            )
        return cls(role, private, public, trusted, signing)

    def can_switch(self, key: str) -> bool:
        """Return whether the private half of ``key`` is in a file here, and does not sign."""
        return self.private is not None and _aside(self.private, key).exists()

    def find(self, given: str) -> str:
        """Return the id of the trusted key that a person named, by its first digits or all.

        Raises:
            BucklerError: None or several are meant.
        """
        found = named(self.trusted, given)
        if found is None:
            raise BucklerError(
                f"expected the id of a key in {self.public} ({self.trusted}), or its first {SHORT} digits,"
                f" got {given!r}"
            )
        return found

    @property
    def waiting(self) -> tuple[str, ...]:
        """Ids of the keys that were added after the one that signs; if it is lost, of those that can sign."""
        if self.signing is None:
            return tuple(filter(self.can_switch, self.trusted.ids))
        return self.trusted.ids[self.trusted.ids.index(self.signing) + 1 :]

    @property
    def earlier(self) -> tuple[str, ...]:
        """Ids of the other trusted keys."""
        return tuple(key for key in self.trusted.ids if key != self.signing and key not in self.waiting)


def named(known: PublicKeys, given: str) -> str | None:
    """Return the id of the key that ``given`` means, its id or the first digits of it; None without exactly one."""
    match = _ID.fullmatch(given)
    found = [key for key in known.ids if match and key.startswith(f"sha256:{match.group(1)}")]
    return found[0] if len(found) == 1 else None


def check_first(directory: Path, *roles: Role) -> None:
    """Check that a first pair for ``roles`` in ``directory`` does not devalue what another key signed.

    Raises:
        BucklerError: The verdict key signed promotions here.
    """
    known = PROMOTIONS.signing_key or PROMOTIONS.public_keys
    lost = not (VERDICTS.signing_key or VERDICTS.public_keys)  # with all keys: nothing here verifies what they signed
    signed = any(journal.directory().glob("*/*.jsonl"))
    if PROMOTIONS in roles and directory == paths.KEYS and not known and not lost and signed:
        raise BucklerError(
            "the verdict key signed promotions here; a new pair would devalue them: use `buckler keys rotate --for"
            f" {PROMOTIONS.name}`"
        )


def begin(role: Role, next_key: PublicKeys | None = None) -> Pair:
    """Trust one more key, or finish what an earlier call began; the key that signs is not needed.

    Args:
        role: What the keys sign.
        next_key: The public half of a key in a token; default: a new pair in files.

    Raises:
        BucklerError: As `Pair.of`; or an earlier key is still trusted, or another one waits.
    """
    _separate(role)
    pair = Pair.of(role)
    if pair.waiting and next_key is None:
        return pair
    if pair.signing and (pair.earlier or set(pair.waiting) - set(next_key.ids if next_key else ())):
        other = (*pair.earlier, *pair.waiting)[0]
        raise BucklerError(
            f"{pair.public} still trusts {other}, too; retire it first: `buckler keys retire"
            f" {short(other)} --for {role.name}`"
        )
    if next_key is None and pair.private is None:
        raise BucklerError(
            f"the key that signs {role.name} is in a token ({role.signing_env}); create the next one there"
            f" (`buckler keys init --for {role.name} --pkcs11 URI --directory DIR`) and give DIR/{role.public_file}"
            " with --public"
        )
    new = next_key or _unfinished(pair) or _create(pair)
    files.write(pair.public, pair.trusted.joined(new).pem, mode=PUBLIC_MODE)
    return Pair.of(role)


def switch(role: Role, given: str) -> Pair:
    """Make another trusted key the one that signs; the present one is kept beside it until it is retired.

    Raises:
        BucklerError: As `Pair.of`; or the private half of the key is in no file here.
    """
    pair = Pair.of(role)
    key = pair.find(given)
    if key == pair.signing:
        return pair
    if pair.private is None or not pair.can_switch(key):
        raise BucklerError(
            f"the private half of {key} is in no file beside that of the key that signs {role.name}; if it is in a"
            f" token, set {role.signing_env} to its URI"
        )
    if pair.signing and not pair.can_switch(pair.signing):
        os.link(pair.private, _aside(pair.private, pair.signing))  # never without a key that signs
    _aside(pair.private, key).replace(pair.private)
    files.sync_directory(pair.private.parent)
    return Pair.of(role)


def drop(role: Role, key: str) -> Pair:
    """Trust ``key`` no more, and delete the file of its private half.

    Raises:
        BucklerError: As `check_droppable`.
    """
    pair = Pair.of(role)
    check_droppable(pair, key)
    # Before the public half: `begin` would add it again.
    default = paths.KEYS / role.private_file
    for path in (default, *(_aside(place, key) for place in (pair.private, default) if place)):
        if path.exists() and key_id(keys.load_private_key(path).public_key()) == key:
            path.unlink()
    files.write(pair.public, pair.trusted.without(key).pem, mode=PUBLIC_MODE)
    return Pair.of(role)


def check_droppable(pair: Pair, key: str) -> None:
    """Check that another trusted key signs.

    Raises:
        BucklerError: ``key`` signs, or nothing does.
    """
    if pair.signing is None:
        raise BucklerError(
            f"no key signs {pair.role.name} here; `buckler keys rotate --for {pair.role.name}` makes a new one"
        )
    if key == pair.signing:
        raise BucklerError(
            f"{key} signs {pair.role.name}; let another one sign first: `buckler keys rotate --for {pair.role.name}`"
        )


def _separate(role: Role) -> None:
    """Give promotions files of their own, with the verdict key, where it signed both so far."""
    if role is VERDICTS and not (PROMOTIONS.signing_key or PROMOTIONS.public_keys):
        raise BucklerError(
            "the verdict key signs promotions, too, as far as known here; give promotions a key of their own first"
            f" (`buckler keys rotate --for {PROMOTIONS.name}`), or name their public keys in {PROMOTIONS.public_env}"
        )
    if role is not PROMOTIONS or PROMOTIONS.public_keys:
        return
    private, public = paths.KEYS / PROMOTIONS.private_file, paths.KEYS / PROMOTIONS.public_file
    trusted = keys.load_trusted_keys().promotion
    if not PROMOTIONS.signing_key and (shared := VERDICTS.signing_key):
        if hardware.is_uri(shared):
            raise BucklerError(
                "the verdict key signs promotions, too, and is in hardware; name it in"
                f" {PROMOTIONS.signing_env} as well"
            )
        private.parent.mkdir(parents=True, exist_ok=True)
        files.write(private, Path(shared).read_bytes())
    files.write(public, trusted.pem, mode=PUBLIC_MODE)


def _unfinished(pair: Pair) -> PublicKeys | None:
    """Return the public half of a key that an interrupted call created; None without one."""
    if pair.private is None:
        return None
    for path in sorted(pair.private.parent.glob(f"{pair.private.stem}.*{pair.private.suffix}")):
        return PublicKeys.of(keys.load_private_key(path).public_key())
    return None


def _create(pair: Pair) -> PublicKeys:
    key = Ed25519PrivateKey.generate()
    if pair.private is None:
        raise ValueError("expected a key in a file")
    files.write(_aside(pair.private, key_id(key.public_key())), keys.private_pem(key))
    return PublicKeys.of(key.public_key())


def _aside(private: Path, key: str) -> Path:
    """Return the file of a private key that does not sign, beside that of the one that does."""
    return private.with_name(f"{private.stem}.{short(key)}{private.suffix}")


def short(key: str) -> str:
    """Return the first digits of an id, which identify the key in files and commands."""
    return key.removeprefix("sha256:")[:SHORT]
