"""The model card, through a real server."""

import html
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from benchmarks.signing import write_verdict
from buckler.models.info import load_info, save_info
from buckler.serving.model_card import SYNTHETIC_BANNER, ModelCard
from buckler.trust.verdict import MODEL_DIR, Verdict
from services.classifier.interfaces.card_page import POLICY
from tests import projects
from tests.services.running import LABELS, Server, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stated(tmp_path_factory) -> Verdict:
    """What the gate measured of a model, from a real verdict."""
    directory = tmp_path_factory.mktemp("project")
    projects.make_project(directory)
    return projects.build(directory)


@pytest.fixture(scope="module")
def judged(module_tmp_path: Path, release: Path, keys: Path, stated) -> Iterator[Server]:
    directory = module_tmp_path
    copy = Path(shutil.copytree(release, directory / "release"))
    save_info(replace(load_info(copy / MODEL_DIR), data_source="synthetic"), copy / MODEL_DIR)
    notes = ("<script>alert(1)</script> & so on",)
    write_verdict(copy, keys, notes=notes, policy=stated.policy, measured=stated.measured)
    with serving(directory, keys, BUCKLER_RELEASE=str(copy)) as server:
        yield server


class Balanced(HTMLParser):
    """Fails on tags that are not opened and closed in pairs."""

    VOID = ("meta", "link")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_card_describes_the_live_model(judged: Server, picture: bytes, stated):
    response = judged.get("/model")
    assert response.headers["content-type"] == "application/json"
    card, answer = response.json(), judged.predict(picture).json()
    assert {name: card["model"][name] for name in ("name", "version", "digest")} == {
        name: answer["model"][name] for name in ("name", "version", "digest")
    }
    assert card["verdict"]["id"] == answer["model"]["verdict"]
    assert card["schema"] == 5
    assert card["detector"]["threshold"] == stated.measured["detector"]["threshold"]
    assert card["clean"]["accuracy"]["value"] == stated.measured["clean_accuracy"]["value"]
    assert card["model"]["labels"] == list(LABELS)


def test_the_card_is_a_page_for_clients_that_accept_html(judged: Server):
    by_accept = httpx.get(f"{judged.url}/model", headers={"accept": "text/html,*/*;q=0.8"}, timeout=60)
    by_path = judged.get("/model.html")
    assert by_accept.headers["content-type"] == by_path.headers["content-type"] == "text/html; charset=utf-8"
    assert by_accept.text == by_path.text
    assert by_path.headers["content-security-policy"] == POLICY


def test_the_page_shows_the_numbers_and_loads_and_runs_nothing(judged: Server, stated):
    page = judged.get("/model.html").text
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    for row in stated.measured["worst_case"]:
        assert f"{row['robust_accuracy']['value']:.1%}" in page
    for row in stated.measured["checks"]:
        assert row["name"].replace("_", " ") in page
    assert not re.search(r"<script|https?:|url\(|@import|\son\w+=", page)
    assert re.search(r"<code>max_evaded</code></dt><dd>none</dd>", page)
    assert "<code>allowed_warnings</code></dt><dd>mostly_colour, no_repeated_files</dd>" in page
    assert "&lt;script&gt;" in page
    assert "prefers-color-scheme: dark" in page


def test_the_card_states_what_decisions_miss_and_how_reliable_probabilities_are(judged: Server, stated):
    card, page = judged.get("/model").json(), " ".join(judged.get("/model.html").text.split())
    assert card["clean"]["reliability"] == stated.measured["reliability"]
    assert card["decisions"] == stated.measured["decisions"]
    assert "1 of 93 dangerous calibration pictures pass as harmless" in page
    assert re.search(r"accepted misses</th><td>2\.0% .*?</td><td>20\.0% ", page)
    assert "<th>80.0% to 90.0%</th><td>49</td><td>40</td>" in page


def test_the_page_begins_with_banner_intended_use_source_and_limits(judged: Server):
    card, page = judged.get("/model").json(), html.unescape(judged.get("/model.html").text)
    assert card["data"]["source"] == "synthetic"
    texts = (SYNTHETIC_BANNER, card["intended_use"], "none of a patient", *card["limits"], "Without an attacker")
    places = [page.index(text) for text in texts]
    assert places == sorted(places)
    assert "<details>" not in page[: places[-1]]  # none of them is under a fold


def test_the_page_has_an_icon_that_its_policy_allows(judged: Server):
    assert '<link rel="icon" href="data:,">' in judged.get("/model.html").text
    assert "img-src data:;" in POLICY


def test_a_verdict_with_few_statements_has_a_card(server: Server):
    card, page = server.get("/model").json(), server.get("/model.html").text
    assert (card["worst_case"], card["detector"], card["data"]["source"]) == ([], None, None)
    assert "not stated" in page
    assert SYNTHETIC_BANNER not in page


@pytest.mark.parametrize("path", ["/model", "/model.html"])
def test_without_a_model_there_is_no_card(server_without_model: Server, path):
    response = server_without_model.get(path)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "no_verified_model")


def test_the_schema_in_the_openapi_document_fits_the_card(judged: Server):
    document = judged.get("/docs.json").json()
    schema = document["components"]["schemas"]["ModelCard"]
    assert set(judged.get("/model").json()) == set(schema["properties"])
    ModelCard.model_validate({**judged.get("/model").json(), "schema_": 1})
