"""What the picture page says about an answer and about the model; without a browser."""

import re
from typing import Any

import pytest

from buckler.client import Answer
from buckler.detection.reasons import Reason
from buckler.modality.picture import images, synthetic
from buckler.serving.model_card import SYNTHETIC_BANNER
from services.console import model_facts, pages, samples
from services.console.model_facts import ModelFacts, SimilarAnswers
from services.console.service_client import PictureAnswer, ServiceClient
from tests.services.console.answers import answer
from tests.services.console.browser import client, token_of

pytestmark = pytest.mark.usefixtures("empty_folder")

CARD: dict[str, Any] = {
    "model": {"name": "skin", "version": "3", "labels": ["benign", "malignant"], "image_size": 32},
    "data": {"version": "sha256:data", "source": "synthetic"},
    "intended_use": "To try Buckler.",
    "limits": ["It sees one picture."],
    "standing": {"expires_at": "2099-01-01T00:00:00Z"},
    "clean": {"reliability": [{"low": 0.6, "high": 0.7, "confidence": 0.64, "pictures": 49, "right": 40}]},
    "verdict": {"id": "sha256:verdict"},
}
OLD_CARD = {**CARD, "data": {"version": "sha256:data"}, "clean": {}, "intended_use": None}


def rendered(given: Answer, *, card: dict[str, Any] | None = CARD, heat_map: str = "shown") -> str:
    overlay = "data:image/png;base64,BBBB" if heat_map == "shown" else None
    found = PictureAnswer(given, "data:image/png;base64,AAAA", heat_map, overlay, card)
    return bytes(pages.answer(found).body).decode()


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_an_answer_without_a_warning_is_not_called_good():
    html = rendered(answer("benign"))
    assert "No automatic warning" in html
    assert not re.search(r'class="[^"]*\b(good|bad|warn|review)\b', html)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_a_warning_with_its_meaning_and_advice(reason):
    html = rendered(answer("benign", reason))
    assert '<p class="advice review">' in html
    assert reason.meaning in html
    assert reason.advice.replace("'", "&#39;") in html
    assert "No automatic warning" not in html


def test_a_reason_of_a_newer_service_is_shown_by_its_name():
    assert "tide too high" in rendered(answer("benign", "tide_too_high"))


def test_the_detectors_line_does_not_contradict_the_warning_about_a_series():
    html = rendered(answer("benign", Reason.QUERY_ATTACK))
    assert "The detector did not flag this picture alone" in html
    assert "the series of near-identical pictures" in html
    assert '<p class="finding ">' in html


def test_the_detectors_line_is_a_warning_only_if_it_flags():
    assert '<p class="finding warn">' in rendered(answer("benign", Reason.ADVERSARIAL, flagged=True))
    assert '<p class="finding ">' in rendered(answer("benign", Reason.LOW_CONFIDENCE))


def test_an_estimate_is_compared_with_test_pictures_of_its_bin():
    assert "Of 49 test pictures with an estimate about this high, 40 were answered rightly." in text_of(
        rendered(answer("benign"))
    )


@pytest.mark.parametrize("card", [None, OLD_CARD, {**CARD, "clean": {"reliability": None}}])
def test_without_a_table_of_reliability_nothing_is_said_of_it(card):
    assert "answered rightly" not in rendered(answer("benign"), card=card)


@pytest.mark.parametrize(
    ("probability", "found"), [(0.6, True), (0.699, True), (0.599, False), (0.7, False), (1.0, False)]
)
def test_a_probability_belongs_to_one_bin(probability, found):
    assert model_facts.similar_answers(CARD, probability) == (SimilarAnswers(49, 40) if found else None)


def test_certainty_belongs_to_the_last_bin():
    card = {"clean": {"reliability": [{"low": 0.9, "high": 1.0, "confidence": 0.97, "pictures": 9, "right": 9}]}}
    assert model_facts.similar_answers(card, 1.0) == SimilarAnswers(9, 9)


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        (
            CARD | {"heat_map": {"shown": False, "checked": None, "reason": "It misses the lesion."}},
            "It misses the lesion.",
        ),
        (None, "The model's heat maps failed their check."),
    ],
)
def test_a_heat_map_that_failed_its_check_is_replaced_by_the_reason(card, sentence):
    html = rendered(answer("benign"), card=card, heat_map="unreliable")
    assert html.count("<img") == 1
    assert f"No heat map available {sentence}" in text_of(html).replace("&#39;", "'")


def test_a_flat_heat_map_is_replaced_by_a_sentence():
    html = rendered(answer("benign"), heat_map="flat")
    assert html.count("<img") == 1
    assert "No heat map available No region stands out." in text_of(html)


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        (None, "It was not checked whether the marked regions are those that matter."),
        (
            {"shown": True, "checked": None, "reason": "Not checked: no lesion is known."},
            "Not checked: no lesion is known.",
        ),
        (
            {"shown": True, "checked": {"value": 0.92}, "reason": None},
            "In 92.0 % of the pictures that it was checked on, the strongest mark lay on the lesion.",
        ),
    ],
)
def test_a_heat_map_says_whether_it_was_checked(stated, sentence):
    html = rendered(answer("benign"), card=CARD | {"heat_map": stated})
    assert html.count("<img") == 2
    assert f"A rough hint. {sentence}" in text_of(html)


def test_a_printed_answer_names_model_verdict_request_limits_and_source():
    text = text_of(rendered(answer("benign")))
    for part in (
        "skin, version 3",
        "sha256:verdict",
        "0f0f",
        "UTC",
        "It sees one picture.",
        "To try Buckler.",
        SYNTHETIC_BANNER,
    ):
        assert part in text


def test_a_printed_answer_without_a_card_claims_nothing_about_the_model():
    text = text_of(rendered(answer("benign"), card=None))
    assert "The model card was not available." in text
    assert "Intended use" not in text
    assert SYNTHETIC_BANNER not in text


def test_what_an_old_card_lacks_is_not_stated():
    facts = model_facts.of(OLD_CARD)
    assert isinstance(facts, ModelFacts)
    assert (facts.intended_use, facts.source, facts.synthetic) == (None, None, False)
    assert facts.source_text == "not stated"


@pytest.mark.parametrize("path", ["/", "/engineer", "/sign-in"])
def test_an_unreachable_service_leads_to_no_claim_about_its_model(path):
    html = client().get(path).text
    assert SYNTHETIC_BANNER not in html
    assert "Intended use" not in html
    assert "Trained on" not in html


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch):
    """Sets the source of the data that the card of the live model states."""

    def set_source(source: str | None) -> None:
        card = CARD | {"data": {"source": source}}
        monkeypatch.setattr(ServiceClient, "live_card", lambda _: card)

    return set_source


@pytest.mark.parametrize("path", ["/", "/engineer", "/sign-in"])
@pytest.mark.parametrize(("stated", "shown"), [("synthetic", True), ("directory", False), (None, False)])
def test_every_page_says_that_the_model_learnt_from_drawn_pictures(source, path, stated, shown):
    source(stated)
    assert (SYNTHETIC_BANNER in client().get(path).text) is shown


@pytest.mark.parametrize(("stated", "count"), [("synthetic", len(samples.SAMPLES)), ("directory", 0)])
def test_samples_are_offered_only_to_a_model_of_drawn_pictures(source, stated, count):
    source(stated)
    browser = client()
    assert browser.get("/").text.count("data-sample=") == count
    assert browser.get("/samples/0.png").status_code == (200 if count else 404)


def test_a_sample_is_drawn_at_the_models_size(source):
    source("synthetic")
    answer = client().get("/samples/1.png")
    assert answer.headers["content-type"] == "image/png"
    assert images.load_pixels(answer.content).shape == (32, 32, 3)
    assert client().get(f"/samples/{len(samples.SAMPLES)}.png").status_code == 404


def test_samples_have_both_labels_and_differ():
    assert {sample.label for sample in samples.SAMPLES} == set(synthetic.LABELS)
    assert len({samples.draw(sample, 32) for sample in samples.SAMPLES}) == len(samples.SAMPLES)
    assert [sample.number for sample in samples.SAMPLES] == list(range(len(samples.SAMPLES)))


def test_without_a_key_no_sample_is_drawn(guarded):
    assert guarded.get("/samples/0.png", follow_redirects=False).status_code == 303


def test_a_picture_over_the_limit_is_called_too_large():
    browser = client(body_limit_bytes=3_000_000)
    answer = browser.post("/ask", content=bytes(3_000_001), headers={"x-buckler-token": token_of(browser)})
    assert answer.status_code == 413
    assert "The file is too large" in answer.text
    assert "Choose one of at most 3 MB." in answer.text


def test_the_page_knows_the_limit_before_it_sends():
    assert 'data-limit="3000000"' in client(body_limit_bytes=3_000_000).get("/").text


def test_a_runbook_is_a_page_to_which_alerts_link():
    page = client().get("/runbooks/BucklerServiceDown")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/plain; charset=utf-8"
    assert page.text.startswith("# BucklerServiceDown")
    for unknown in ("Absent", "..%2F..%2FREADME", "BucklerServiceDown.md"):
        assert client().get(f"/runbooks/{unknown}").status_code == 404
