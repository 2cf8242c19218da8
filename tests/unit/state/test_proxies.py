"""With a proxy in the environment, as in hospitals, requests to this machine do not go through it."""

import urllib.request
from collections.abc import Iterator

import httpx
import pytest
import requests

from buckler.client import Client, UnreachableError
from buckler.errors import RegistryError
from buckler.serving.registry import Registry
from buckler.state import proxies
from tests import blackholes

DEAD = "http://127.0.0.1:9"
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def proxied(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("http_proxy", DEAD)
    monkeypatch.setattr(urllib.request, "_opener", None)  # that of an earlier test knows no proxy


@pytest.fixture
def address() -> Iterator[str]:
    class Empty(blackholes.Quiet):
        def answer(self) -> None:
            self.send_response(204)
            self.end_headers()

    with blackholes.serving(Empty) as url:
        yield url


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_every_library_reaches_this_machine_without_the_proxy(address: str, host: str, monkeypatch):
    url = address.replace("127.0.0.1", host)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=5)
    monkeypatch.setenv("no_proxy", "example.org")  # restores it after the test, too
    monkeypatch.setenv("NO_PROXY", "")
    proxies.exempt_loopback()
    with urllib.request.urlopen(url, timeout=5) as answer:
        assert answer.status == 204
    assert requests.get(url, timeout=5).status_code == 204
    assert httpx.get(url, timeout=5).status_code == 204


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "127.0.0.1,localhost,::1"),
        ("example.org, .local", "example.org,.local,127.0.0.1,localhost,::1"),
        ("localhost,10.0.0.0/8", "localhost,10.0.0.0/8,127.0.0.1,::1"),
        ("*", "*"),
    ],
)
@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY"])
def test_the_entries_of_the_user_are_kept(before: str, after: str, variable: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv(variable, before)
    proxies.exempt_loopback()
    assert proxies.os.environ["no_proxy"] == proxies.os.environ["NO_PROXY"] == after


def test_without_a_proxy_nothing_changes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("http_proxy")
    proxies.exempt_loopback()
    assert "no_proxy" not in proxies.os.environ


def test_the_client_asks_this_machine_directly_in_a_program_of_others(address: str):
    with httpx.Client(mounts=proxies.DIRECT) as direct:
        assert direct.get(address).status_code == 204
    with Client(address) as client, pytest.raises(UnreachableError, match="expected an answer of Buckler's service"):
        client.model_card()


def test_an_error_of_an_address_behind_a_proxy_names_the_variable_and_shows_no_password(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:9")
    through = r"through the proxy http://127\.0\.0\.1:9 of http_proxy; .* add classifier\.example to no_proxy"
    with Client("http://classifier.example:3000", retries=0) as client, pytest.raises(UnreachableError) as caught:
        client.model_card()
    caught.match(through)
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://classifier.example:5000")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError) as refused:
        Registry("skin-lesion", keys=None, id="local").versions()
    refused.match(through)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value", "url", "named"),
    [
        ("HTTPS_PROXY", "http://proxy:3128", "https://mlflow.example", "http://proxy:3128 of HTTPS_PROXY"),
        ("all_proxy", "proxy:3128", "https://mlflow.example", "proxy:3128 of all_proxy"),
        ("no_proxy", "mlflow.example", "http://mlflow.example", None),
        ("no_proxy", "*", "http://mlflow.example", None),
        ("HTTPS_PROXY", "http://proxy:3128", "sqlite:///a.db", None),
        ("HTTPS_PROXY", "http://proxy:3128", "https://127.0.0.1:3000", None),
    ],
)
def test_the_proxy_of_an_address_is_that_of_its_scheme(variable, value, url, named, monkeypatch):
    monkeypatch.setenv(variable, value)
    found = proxies.through(url)
    assert found == "" if named is None else f"through the proxy {named};" in found
