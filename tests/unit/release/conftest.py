import pytest

from buckler.release import bundle
from buckler.release.publish import publish as publish_release
from tests import projects
from tests.unit.release.promoted import at


@pytest.fixture
def publish(project, registry):
    """Gate and publish a model and return the number of its version."""

    def publish_one(*, days: int = 0, **results: object) -> str:
        projects.make_project(project, weights=f"weights at {days}".encode(), **results)
        verdict = projects.build(project, name=registry, now=at(days))
        published = publish_release(
            project / "models/release",
            project / "reports",
            names=bundle.PublishParams(registry, registry),
            parameters={},
            source=bundle.CodeVersion(None, False),
            verdict=verdict,
        )
        return published.version

    return publish_one
