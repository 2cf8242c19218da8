"""A version of a model as the registry describes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version of a model; nothing in it is verified.

    Equal versions are the same release under the same promotion: a new standing, head or approval changes neither.

    Attributes:
        model: Name in the registry.
        version: Number, as text.
        digest: Digest of the model bytes.
        verdict: Id of the verdict it was registered with.
        promotion: Signed record of the last promotion or roll-back to it; empty without one.
        standing: Latest signed standing; empty without one.
        latest: Signed record of the last promotion of any version of the model; empty without one.
        head: Last signed record of the model, of any kind; empty without one.
        registry: Id of the registry that the entry is from; from the configuration, not from the registry.
        run_id: Id of the run that made it.
        approvals: Name of a person -> her signed approval of a promotion.
    """

    model: str
    version: str
    digest: str = ""
    verdict: str = ""
    promotion: str = ""
    standing: str = field(default="", compare=False)
    latest: str = ""
    head: str = field(default="", compare=False)
    registry: str = ""
    run_id: str = ""
    approvals: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return f"version {self.version} of {self.model}"
