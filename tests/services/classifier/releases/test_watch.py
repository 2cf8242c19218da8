"""Canary and probe against a real service that requires keys and follows a real registry."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml

from buckler import watch
from buckler.errors import BucklerError
from buckler.serving import api_keys
from buckler.state import paths
from buckler.trust import audit_chain
from buckler.trust.journal import JOURNAL_ENV
from buckler.trust.keys import PROMOTIONS
from buckler.watch.jobs import probe
from tests import projects
from tests.key_files import public_env, signing_env
from tests.services.champions import Champion, forget
from tests.services.running import IMAGE_SIZE, TLS, Server, serving
from tests.unit.watch import made
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

PROBE = {
    "records": 4,
    "square_records": 1,
    "queries": 40,
    "transfer": {"attack": "pgd", "radius": "4/255", "steps": 2},
    "crafted_on": "release",
    "square_radius": 8,
    "seed": 7,
    "min_parity": 0.99,
    "max_probability_gap": 0.03,
    "max_flagged": {"clean": 0.0},
    "min_flagged": {"square": 0.5},
    "min_robust_accuracy": {},
}


@pytest.fixture(scope="module")
def home(module_tmp_path: Path) -> Path:
    return module_tmp_path


@pytest.fixture(scope="module", autouse=True)
def environment(keys: Path, mlflow_database: str, home: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_database)
        for variable, value in (public_env(keys) | signing_env(keys, PROMOTIONS)).items():
            patch.setenv(variable, value)
        patch.setenv(JOURNAL_ENV, str(home / "signed"))  # each test has another working directory
        patch.chdir(home)
        yield


@pytest.fixture(scope="module")
def champion(release: Path, keys: Path, home: Path, environment: None) -> Iterator[Champion]:
    yield (champion := Champion("watched-http", release, keys, home))
    forget(champion.name)


@pytest.fixture(scope="module")
def server(champion: Champion, keys: Path, mlflow_database: str, home: Path) -> Iterator[Server]:
    _, secret = api_keys.create(home / "api.json", role=api_keys.Role.PREDICT, name="watch")
    (home / "watch.key").write_text(secret)
    with running(home / "server", champion, keys, mlflow_database) as server:
        yield server


@contextmanager
def running(directory: Path, champion: Champion, keys: Path, mlflow_database: str, **changes: str) -> Iterator[Server]:
    """A service that requires keys."""
    home = directory.parent
    settings = {
        "MLFLOW_TRACKING_URI": mlflow_database,
        "BUCKLER_MODEL_NAME": champion.name,
        "BUCKLER_REQUIRE_KEYS": "always",
        "BUCKLER_API_KEYS": str(home / "api.json"),
        "BUCKLER_KEY_REQUESTS_PER_SECOND": "1000",
        "BUCKLER_FOLLOW_SECONDS": "0.3",
        "BUCKLER_FOLLOW_JITTER_SECONDS": "0",
        **changes,
    }
    directory.mkdir()
    with serving(directory, keys, **settings) as server:
        wait_for(lambda: server.get("/readyz").status_code == 200)
        yield server


@pytest.fixture
def project(server: Server, champion: Champion, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project directory whose watch queries the server."""
    monkeypatch.chdir(tmp_path)
    projects.write_splits(tmp_path, IMAGE_SIZE, 8, np.random.default_rng(5))
    cfg = made.watching(service_url=server.url, key_file=str(home / "watch.key"))
    write_params(champion, cfg)
    return tmp_path


def write_params(champion: Champion, cfg: watch.WatchParams, **probing: object) -> None:
    sections = {
        "watch": made.as_section(cfg),
        "canary": {"records": 3, "min_right": 1.0},
        "probe": {**PROBE, **probing},
        "publish": {"experiment": "watched", "model_name": champion.name},
    }
    Path("params.yaml").write_text(yaml.safe_dump(sections))


@contextmanager
def swapped(server: Server) -> Iterator[str]:
    """Yield the address of a server that forwards to ``server`` and swaps the two probabilities of each answer."""

    class Forward(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length", 0))
            headers = {name: self.headers[name] for name in ("authorization", "content-type") if name in self.headers}
            answer = httpx.request(
                self.command, server.url + self.path, content=self.rfile.read(length), headers=headers, verify=TLS
            )
            body = answer.json()
            if "probabilities" in body:
                shares = body["probabilities"]
                body["probabilities"] = dict(zip(shares, reversed(shares.values()), strict=True))
            content = json.dumps(body).encode()
            self.send_response(answer.status_code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Forward) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}"
        finally:
            proxy.shutdown()
            thread.join()


def test_the_canary_passes_with_the_known_answers_of_the_live_release(project, champion):
    run = watch.run_once("canary")
    assert (run.outcome, run.message) == ("passed", "version 1: 3 of 3 reference pictures have the expected answers")
    state = watch.read_state("canary")
    assert (state["right_ratio"], state["pictures"]) == (1.0, 3)
    assert 0 < state["seconds"] < 10
    found = made.metrics()
    assert found["buckler_canary_right_ratio"] == 1
    assert found['buckler_standing{state="holds"}'] == 1
    assert found["buckler_verdict_expiry_timestamp_seconds"] > found["buckler_verdict_issued_timestamp_seconds"] > 0


def test_unknown_answers_degrade_the_service_until_the_known_ones_return(project, champion, server, home):
    watching = made.watching(policy={**dict.fromkeys(watch.JOBS, ()), "canary": ("alert", "degrade")})
    key, picture = (home / "watch.key").read_text(), Path("data/images/0.png").read_bytes()

    def reasons() -> list[str]:
        return server.predict(picture, authorization=f"Bearer {key}").json()["reasons"]

    assert watch.run_once("canary", cfg=watching).outcome == "passed"
    with swapped(server) as url:
        write_params(champion, made.watching(service_url=url, key_file=str(home / "watch.key")))
        run = watch.run_once("canary", cfg=watching)
    assert run.outcome == "failed"
    assert "0 of 3" in run.message
    assert "version 1 is degraded" in run.message
    wait_for(lambda: "model_degraded" in reasons())

    write_params(champion, made.watching(service_url=server.url, key_file=str(home / "watch.key")))
    assert watch.run_once("canary", cfg=watching).outcome == "passed"
    wait_for(lambda: "model_degraded" not in reasons())
    report = audit_chain.verify(paths.WATCH_AUDIT_LOG)
    assert (report.lines, report.problem) == (3, None)
    actions = [json.loads(line)["action"] for line in paths.WATCH_AUDIT_LOG.read_text().splitlines()]
    assert actions == ["alert", "degrade", "lift"]


def test_an_unreachable_service_is_an_error_of_the_job(project, champion):
    write_params(champion, made.watching(key_file="nowhere"))
    run = watch.run_once("canary")
    assert run.outcome == "error"
    assert "no answer from http://127.0.0.1:1" in run.message


def test_without_its_key_the_watch_reports_the_error_of_the_service(project, champion, server):
    write_params(champion, made.watching(service_url=server.url, key_file="nowhere"))
    run = watch.run_once("canary")
    assert run.outcome == "error"
    assert "key_missing" in run.message


def test_the_probe_passes_if_answers_match_the_release_and_square_is_detected(project):
    run = watch.run_once("probe")
    assert run.outcome == "passed", run.message
    state = watch.read_state("probe")
    assert state["parity_ratio"] == 1
    assert state["probability_gap"] < 1e-3
    assert state["flagged_ratio"]["clean"] == 0
    assert state["flagged_ratio"]["square"] >= 0.5
    assert set(state["robust_accuracy"]) == {"transfer", "square"}
    assert 1 <= state["queries"] <= PROBE["queries"]
    crafted = [path.stat().st_mtime_ns for path in paths.WATCH_PROBE.glob("*.npy")]

    # Again: nothing is crafted a second time, and the first search does not make clean pictures suspicious.
    again = watch.run_once("probe")
    assert again.outcome == "passed", again.message
    assert watch.read_state("probe")["flagged_ratio"]["clean"] == 0
    assert [path.stat().st_mtime_ns for path in paths.WATCH_PROBE.glob("*.npy")] == crafted
    assert made.metrics()["buckler_probe_parity_ratio"] == 1


def test_a_search_that_the_service_refuses_counts_as_detected(project, champion, keys, mlflow_database, home):
    with running(home / "refusing", champion, keys, mlflow_database, BUCKLER_QUERY_ATTACK="refuse") as refusing:
        write_params(champion, made.watching(service_url=refusing.url, key_file=str(home / "watch.key")))
        run = watch.run_once("probe")
        lines = map(json.loads, refusing.audit.read_text().splitlines())
        assert [line["follows"] for line in lines if line.get("event") == "query_attack"] == ["refuse"]
    assert run.outcome == "passed", run.message
    assert watch.read_state("probe")["flagged_ratio"]["square"] >= 0.5


def test_a_failed_probe_names_the_missed_floor(project, champion, server, home):
    cfg = made.watching(service_url=server.url, key_file=str(home / "watch.key"))
    write_params(champion, cfg, min_flagged={"transfer": 0.9})
    run = watch.run_once("probe")
    assert run.outcome == "failed"
    assert "flagged of transfer pictures" in run.message
    assert not watch.read_state("probe")["passed"]


def test_too_few_test_pictures_are_an_error(project, champion, server, home):
    cfg = made.watching(service_url=server.url, key_file=str(home / "watch.key"))
    write_params(champion, cfg, records=50)
    with pytest.raises(BucklerError, match=r"expected at least 51 test pictures, .* lists 8"):
        probe.run()
