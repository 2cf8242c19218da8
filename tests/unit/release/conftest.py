import pytest

from tests import projects
from tests.unit.release.promoted import at


@pytest.fixture
def publish(project, registry):
    """Gate and publish a model and return the number of its version."""

    def publish_one(*, days: int = 0, **results: object) -> str:
        projects.make_project(project, weights=f"weights at {days}".encode(), **results)
        verdict = projects.build(project, name=registry, now=at(days))
        return projects.publish(project, verdict, registry)

    return publish_one
