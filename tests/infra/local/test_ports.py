import pytest

from benchmarks.servers import free_port
from infra.local import ports
from infra.local.places import LocalError


@pytest.fixture
def defaults(root) -> dict[str, int]:
    return ports.DEFAULTS


def test_a_free_default_is_taken_and_nothing_is_said(defaults, capsys):
    assert ports.choose(["service", "console"], []).items() >= {"service": defaults["service"]}.items()
    assert capsys.readouterr().out == ""


def test_the_watch_has_the_port_of_params_yaml(root):
    (root / "params.yaml").write_text("watch: {port: 4711}\n")
    assert ports.current()["watch"] == 4711


def test_the_next_port_is_not_that_of_another_server(defaults, taken, monkeypatch):
    monkeypatch.setitem(defaults, "console", defaults["service"] + 1)
    with taken(defaults["service"]):
        chosen = ports.choose(["service", "console"], [])
    assert chosen["service"] > defaults["service"] + 1
    assert chosen["console"] == defaults["service"] + 1


def test_a_remembered_port_is_used_again(defaults):
    ports.remember({"service": (moved := free_port())})
    assert ports.choose(["service"], [])["service"] == moved


def test_a_running_server_keeps_its_port_although_it_listens_there(defaults, taken, monkeypatch):
    ports.remember({"service": (at := free_port())})
    monkeypatch.setenv("BUCKLER_SERVICE_PORT", "1")
    with taken(at):
        assert ports.choose(["service"], ["service"])["service"] == at


def test_a_taken_port_of_a_variable_is_an_error_that_names_the_variable(defaults, taken, monkeypatch):
    monkeypatch.setenv("BUCKLER_SERVICE_PORT", str(port := free_port()))
    with taken(port), pytest.raises(LocalError, match=rf"port {port} for service is taken .* BUCKLER_SERVICE_PORT"):
        ports.choose(["service"], [])
    assert ports.choose(["service"], [])["service"] == port


@pytest.mark.parametrize("content", ["", "[1]", '{"service": "x"}', "{"])
def test_a_damaged_file_of_ports_counts_as_none(defaults, root, content):
    (root / ".buckler/run").mkdir(parents=True)
    (root / ".buckler/run/ports.json").write_text(content)
    assert ports.current()["service"] == defaults["service"]
