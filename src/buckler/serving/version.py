"""A version of a model as the registry describes it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version of a model; nothing in it is verified.

    Equal versions are the same release under the same promotion: a new standing changes neither.

    Attributes:
        model: Name in the registry.
        version: Number, as text.
        digest: Digest of the model bytes.
        verdict: Id of the verdict it was registered with.
        promotion: Signed record of the last promotion or roll-back to it; empty without one.
        standing: Latest signed standing; empty without one.
        promoted_at: ISO time of its last promotion; empty if it was never champion.
        replaced_at: ISO time at which another version last became champion in its place; empty if none did.
        run_id: Id of the run that made it.
    """

    model: str
    version: str
    digest: str = ""
    verdict: str = ""
    promotion: str = ""
    standing: str = field(default="", compare=False)
    promoted_at: str = ""
    replaced_at: str = ""
    run_id: str = ""

    def __str__(self) -> str:
        return f"version {self.version} of {self.model}"
