"""No page waits for a slow server: it says which one is slow, and shows the answer when it is there."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.console import app
from services.console.latest import Latest, SlowError
from tests import blackholes
from tests.services.console.browser import client
from tests.waiting import wait_for

pytestmark = pytest.mark.usefixtures("empty_folder")


class Reader:
    """A reader that waits until it is released; it counts its reads."""

    def __init__(self) -> None:
        self.released, self.reads = threading.Event(), 0

    def __call__(self) -> int:
        self.reads += 1
        number = self.reads
        assert self.released.wait(60)
        return number


@pytest.fixture
def reader():
    reader = Reader()
    yield reader
    reader.released.set()


def newest(latest: Latest[int], seconds: float = 0.05) -> tuple[int, float]:
    found = asyncio.run(latest.newest(seconds))
    return found.value, found.age


def test_an_answer_in_time_is_of_now(reader):
    reader.released.set()
    latest = Latest("the registry", reader)
    assert newest(latest, 30) == (1, 0)
    assert newest(latest, 30) == (2, 0)


def test_a_slow_server_is_named_and_asked_once(reader):
    clock = iter([100.0, 104.0, 108.0, 112.0])
    latest = Latest("the registry", reader, clock=lambda: next(clock))
    for seconds in (4, 8):
        with pytest.raises(SlowError, match=f"the registry has not answered for {seconds} s; a later refresh shows"):
            newest(latest)
    assert reader.reads == 1


def test_a_late_answer_is_shown_with_its_age_while_the_next_one_is_awaited(reader):
    now = [0.0]
    latest = Latest("the registry", reader, clock=lambda: now[0])
    with pytest.raises(SlowError):
        newest(latest)
    reader.released.set()
    wait_for(lambda: latest._ended is not None)
    reader.released.clear()
    now[0] = 90.0
    assert newest(latest) == (1, 90.0)
    with pytest.raises(SlowError):
        asyncio.run(latest.now(0.05))
    assert reader.reads == 2


def test_a_late_error_is_shown_too():
    def broken() -> int:
        time.sleep(0.2)
        raise RuntimeError("no answer within 30 s")

    latest = Latest("the registry", broken)
    with pytest.raises(SlowError):
        newest(latest)
    wait_for(lambda: latest._ended is not None)
    with pytest.raises(RuntimeError, match="no answer within 30 s"):
        newest(latest)


def test_what_began_before_a_promotion_is_not_shown_after_it(reader):
    latest = Latest("the registry", reader)
    with pytest.raises(SlowError):
        newest(latest)
    latest.forget()
    reader.released.set()
    assert newest(latest, 30) == (2, 0)


PAGES = ["/", "/engineer", "/sign-in", "/samples/1.png"]
PANELS = ["/engineer/models", "/engineer/live", "/engineer/alerts"]


@pytest.mark.parametrize("server", [lambda: blackholes.slow(30), blackholes.silent, blackholes.trickling])
def test_no_page_waits_longer_than_five_seconds(server, monkeypatch):
    """All servers of the console are slow; one answers after 30 s, one never, and one a byte at a time."""
    client().get("/engineer/models")  # loads MLflow, which takes seconds
    with server() as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        slow = dict.fromkeys(("service_url", "prometheus_url", "alertmanager_url", "watch_url"), url)

        def ask(path: str) -> tuple[float, str]:
            browser = client(**slow)
            began = time.monotonic()
            text = browser.get(path).text
            return time.monotonic() - began, text

        with ThreadPoolExecutor() as pool:
            found = dict(zip([*PAGES, *PANELS], pool.map(ask, [*PAGES, *PANELS]), strict=True))
    assert {path: seconds for path, (seconds, _) in found.items() if seconds > 10} == {}  # 5 s, and a busy machine
    assert "The registry has not answered for 4 s; a later refresh shows the answer" in found["/engineer/models"][1]
    assert 'data-again="5"' in found["/engineer/models"][1]  # the page asks again sooner


def test_an_old_answer_of_the_registry_says_how_old_it_is(monkeypatch):
    browser = client()
    monkeypatch.setattr(app.registry.ConsoleRegistry, "overview", lambda _: app.registry.Overview(None, None))
    assert "The registry is slow" not in browser.get("/engineer/models").text
    page = app.pages.render(
        "models", overview=app.registry.Overview(None, None), age=200, chart=None, live_version=None, model_name="m"
    )
    assert "This is what it answered 3 min ago; it may have changed." in page.body.decode()
