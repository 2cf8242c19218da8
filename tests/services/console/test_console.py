"""The console without a browser: access, figures, texts, and its behaviour while no other server answers."""

import html
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from buckler import watch
from buckler.client import ServiceError
from buckler.error_codes import ErrorCode
from buckler.errors import ParamsError
from buckler.measurements.results import Rate
from buckler.radius import NO_ATTACK, StatedRadius
from services.classifier.endpoints import ENDPOINTS
from services.console import messages, pages, robustness_chart, sparkline
from services.console.live_metrics import LiveMetrics, Sample, Totals, between, quantile
from services.console.registry import AliasedVersion, Overview
from services.console.service_client import ServiceClient
from services.console.settings import Settings
from tests.services.console.browser import client, token_of
from tests.services.running import Server
from tests.test_architecture import loaded_by
from tests.unit.serving.test_assessment import SOUND, Documents
from tests.waiting import wait_for

pytestmark = pytest.mark.usefixtures("empty_folder")

SHIPPED = sorted([*(pages.HERE / "templates").iterdir(), *pages.STATIC.iterdir()])


def test_the_console_starts_without_loading_slow_libraries():
    assert loaded_by("services.console.app") == set()


def test_the_console_is_alive_without_other_servers():
    assert client().get("/livez").text == "alive\n"


@pytest.mark.parametrize("path", ["/", "/engineer", "/livez", "/static/console.css", "/nothing"])
def test_every_response_restricts_the_browser_to_this_host(path):
    headers = client().get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_no_template_or_static_file_names_another_host_or_breaks_the_policy(file):
    text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//[a-z]+\.[a-z]", text)
    assert not re.search(r"\sstyle=|\son[a-z]+=|<style|<script>|eval\(", text)


@pytest.mark.parametrize("panel", ["models", "live", "jobs", "alerts"])
def test_a_panel_names_the_missing_server_and_what_to_do(panel):
    text = client().get(f"/engineer/{panel}").text
    advice = {
        "models": "registry",
        "live": "BUCKLER_PROMETHEUS_URL",
        "jobs": "buckler watch",
        "alerts": "BUCKLER_ALERTMANAGER_URL",
    }
    assert advice[panel] in text


def test_reading_the_history_creates_no_folder(tmp_path):
    client().get("/engineer/jobs")
    assert not (tmp_path / ".buckler/watch").exists()


def test_runs_come_from_the_database_that_the_settings_name(tmp_path):
    url = f"sqlite:///{tmp_path}/elsewhere.db"
    history = watch.History(url)
    history.finish(history.start("canary"), 2.0, "passed", "3 of 3 known answers")
    assert "3 of 3 known answers" in client(watch_database_url=url).get("/engineer/jobs").text


def test_a_run_of_a_clock_that_was_ahead_is_marked(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/elsewhere.db"
    history = watch.History(url)
    with monkeypatch.context() as patch:
        patch.setattr("buckler.watch.history.time.time", lambda: 4_102_444_800.0)
        history.start("canary")
    history.start("drift")
    text = client(watch_database_url=url).get("/engineer/jobs").text
    assert text.count("2100-01-01 00:00 UTC, in the future: the clock was wrong") == 2  # last run, latest runs
    assert text.count("in the future") == 2


def test_a_verdict_of_a_clock_that_was_ahead_is_named():
    ahead = datetime(2100, 1, 1, tzinfo=UTC)
    judged = replace(SOUND, issued_at=ahead, expires_at=ahead)
    champion = AliasedVersion("champion", Documents(judged=judged, promoted_as=judged).assess(), None, (), None)
    page = pages.render(
        "models", overview=Overview(champion, None), age=0, chart=None, live_version=None, model_name="skin-lesion"
    )
    text = html.unescape(page.body.decode())
    assert f"The verdict {SOUND.id} is from 2100-01-01T00:00:00+00:00, which lies in the future" in text


def test_without_a_service_a_picture_gets_a_clear_error():
    browser = client()
    answer = browser.post("/ask", content=b"\xff\xd8\xff", headers={"x-buckler-token": token_of(browser)})
    assert answer.status_code == 502
    assert "is the service running" in answer.text


@pytest.mark.slow
def test_a_look_at_a_picture_is_one_request_one_computation_and_one_line_in_the_audit_log(server: Server, picture):
    def counts() -> dict[str, float]:
        requests = {path: server.metric("buckler_requests_total", endpoint=path) for path in ENDPOINTS.picture_labels}
        return requests | {
            "computations": server.metric("buckler_inference_seconds_count"),
            "audit lines": len(server.audit.read_text().splitlines()) if server.audit.exists() else 0,
        }

    browser = client(service_url=server.url)
    token, before = token_of(browser), counts()
    page = browser.post("/ask", content=picture, headers={"x-buckler-token": token}).text
    assert page.count('src="data:image/png;base64,') == 2
    wait_for(lambda: counts()["/explain"] > before["/explain"])  # a request is counted after its answer was sent
    after = {name: count - before[name] for name, count in counts().items() if count != before[name]}
    assert after == {"/explain": 1, "computations": 1, "audit lines": 1}


@pytest.mark.slow
def test_an_opinion_about_an_answer_reaches_the_audit_log(server: Server, picture):
    browser, answer = client(service_url=server.url), server.predict(picture).json()
    about = {"token": token_of(browser), "request_id": answer["request_id"]}
    recorded = browser.post("/feedback", data=about | {"opinion": "agree", "label": answer["label"]})
    line = json.loads(server.audit.read_text().splitlines()[-1])
    assert (line["event"], line["request_id"], line["opinion"]) == ("feedback", answer["request_id"], "agree")
    assert recorded.status_code == 200
    assert f"you agree with this answer ({answer['label']})." in recorded.text
    assert f"line {line['sequence']} of the audit log" in recorded.text
    unknown = browser.post("/feedback", data=about | {"opinion": "unsure", "request_id": "0" * 32})
    assert unknown.status_code == 404
    assert "no answer with this request id" in unknown.text


def test_an_opinion_needs_the_token_of_a_page_and_must_be_a_known_one():
    browser = client()
    about = {"request_id": "0" * 32, "opinion": "agree"}
    assert browser.post("/feedback", data=about).status_code == 403
    other = browser.post("/feedback", data=about | {"token": token_of(browser), "opinion": "maybe"})
    assert other.status_code == 422
    assert "expected opinion to be one of agree, disagree, unsure" in html.unescape(other.text)


@pytest.mark.slow
def test_the_model_card_is_fetched_again_after_a_minute(server: Server, picture):
    now = [0.0]
    service = ServiceClient(Settings(service_url=server.url), clock=lambda: now[0])
    cards = []
    for now[0] in (0.0, 59.0, 61.0, 62.0):
        found = service.classify(picture)
        assert found.card["verdict"]["id"] == found.answer.model.verdict
        cards.append(found.card)
    assert [later is earlier for earlier, later in pairwise(cards)] == [True, False, True]


def test_a_body_over_the_limit_is_refused():
    browser = client(body_limit_bytes=2048)
    answer = browser.post("/ask", content=bytes(4096), headers={"x-buckler-token": token_of(browser)})
    assert answer.status_code == 413
    assert "The file is too large" in answer.text
    assert "Choose one of at most 2 kB" in answer.text


@pytest.mark.parametrize(
    ("host", "require", "needed"),
    [("127.0.0.1", "auto", False), ("0.0.0.0", "auto", True), ("127.0.0.1", "always", True)],
)
def test_keys_are_required_as_by_the_service(host, require, needed):
    assert Settings(console_host=host, require_keys=require).keys_required is needed


def test_a_wrong_setting_is_named_and_no_key_is_quoted(monkeypatch):
    monkeypatch.setenv("BUCKLER_CLIENT_KEY", "bk_secret")
    assert Settings.from_env().key == "bk_secret"
    assert "bk_secret" not in repr(Settings.from_env())
    monkeypatch.setenv("BUCKLER_CONSOLE_PORT", "many")
    with pytest.raises(ParamsError, match="BUCKLER_CONSOLE_PORT: expected a valid integer, got 'many'") as caught:
        Settings.from_env()
    assert "bk_secret" not in str(caught.value)


def test_rates_cover_the_time_between_two_reads():
    before = Totals(0.0, requests=100, errors=5, pictures=100, flagged=50, accepted=50, buckets={0.1: 100, 1.0: 100})
    after = Totals(10.0, requests=120, errors=6, pictures=110, flagged=55, accepted=54, buckets={0.1: 110, 1.0: 120})
    shown = {figure.name: figure.value for figure in between([before, after])}
    assert shown == {
        "Traffic": "2.0 a second",
        "Errors": "5.0\u202f%",
        "Latency, median": "100 ms",
        "Latency, 99th percentile": "982 ms",
        "Flagged as manipulated": "50.0\u202f%",
        "Sent to review": "60.0\u202f%",
    }


def test_one_read_gives_no_rate():
    assert {figure.known for figure in between([Totals(0.0, requests=9)])} == {False}


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 0.5), (0.25, 0.25), (0.9, 2.0), (1.0, 2.0)], ids=["half", "quarter", "open", "all"]
)
def test_a_quantile_is_interpolated_within_its_bucket(share, expected):
    counts = {1.0: 8.0, 2.0: 8.0, float("inf"): 16.0} if share >= 0.9 else {1.0: 10.0, float("inf"): 10.0}
    assert quantile(counts, share) == pytest.approx(expected)


def test_without_requests_there_is_no_quantile():
    assert quantile({1.0: 0.0, float("inf"): 0.0}, 0.5) is None


@pytest.mark.parametrize(
    ("probability", "text"), [(0.99, "very likely"), (0.8, "likely"), (0.61, "probably"), (0.34, "uncertain")]
)
def test_probabilities_are_put_in_words(probability, text):
    assert messages.sureness(probability).startswith(text)


@pytest.mark.parametrize(("share", "shown"), [(0.99999, "over 99.9 %"), (0.00001, "under 0.1 %"), (0.5, "50.0\u202f%")])
def test_an_uncertain_share_is_not_rounded_to_certainty(share, shown):
    assert messages.percent(share) == shown


@pytest.mark.parametrize("when", [0, "1970-01-01T00:00:00Z", "1970-01-01T02:00:30+02:00"])
def test_times_are_shown_in_utc_to_the_minute(when):
    assert messages.moment(when) == "1970-01-01 00:00 UTC"


def test_a_refusal_shows_meaning_advice_and_the_message_of_the_service():
    found = messages.refusal(ServiceError("image_unreadable", "expected a complete JPEG, got a damaged one"))
    assert found.title == "The picture is damaged or incomplete"
    assert found.advice == "Export or save it again, then send it once more."
    assert found.detail == "expected a complete JPEG, got a damaged one"


@pytest.mark.parametrize("code", ErrorCode)
def test_a_message_that_repeats_meaning_and_advice_is_not_shown_again(code):
    assert messages.refusal(ServiceError(code, code.message)).detail == ""


def test_the_request_id_is_shown_if_the_operator_of_the_service_needs_it():
    code = ErrorCode.INTERNAL_ERROR
    assert "0f0f" in messages.refusal(ServiceError(code, code.message, request_id="0f0f")).detail
    code = ErrorCode.IMAGE_EMPTY
    assert "0f0f" not in messages.refusal(ServiceError(code, code.message, request_id="0f0f")).detail


@pytest.mark.parametrize("code", ["key_missing", "key_unknown", "role_forbidden"])
def test_a_rejected_key_is_the_consoles_own(code):
    advice = messages.refusal(ServiceError(code, "text")).advice
    assert "BUCKLER_CLIENT_KEY" in advice
    assert "the role predict" in advice


def test_a_code_of_a_newer_service_shows_its_message():
    found = messages.refusal(ServiceError("brand_new", "the moon is full"))
    assert (found.title, found.advice) == ("The service refused the request", "the moon is full")


def test_the_chart_draws_higher_accuracy_higher_and_the_intervals():
    rates = {NO_ATTACK: Rate(0.9, 0.8, 0.95, 100), StatedRadius(1): Rate(0.4, 0.3, 0.5, 100)}
    chart = robustness_chart.draw([("one", rates)])
    assert chart is not None
    clean, attacked = chart.lines[0].marks
    assert clean.y < attacked.y
    assert attacked.high < attacked.y < attacked.low
    assert attacked.text == "one, up to 1/255: 40.0\u202f% (30.0\u202f% to 50.0\u202f%)"


def test_a_missing_value_interrupts_the_sparkline():
    assert len(sparkline.polylines([1.0, 2.0, None, 3.0, 4.0])) == 2
    assert sparkline.polylines([None, 1.0]) == ()


def test_kinds_of_drift_that_were_not_compared_are_not_called_unchanged():
    found = [Sample("buckler_drift_detected", {"kind": kind}, 0.0) for kind in ("input", "features")]
    found.append(Sample("buckler_drift_window_pictures", {}, 3.0))
    page = pages.render("live", live=LiveMetrics("Prometheus", drift=tuple(found))).body.decode()
    assert page.count("not compared") == 2
    assert "3 pictures in the time window, too few for a test." in page
    found.append(Sample("buckler_drift_p_value_ratio", {"kind": "input"}, 0.25))
    page = pages.render("live", live=LiveMetrics("Prometheus", drift=tuple(found))).body.decode()
    assert (page.count("not compared"), page.count("no shift detected")) == (1, 1)
    assert "p&nbsp;=&nbsp;0.250" in page


def test_names_are_escaped_and_keep_their_umlauts():
    found = messages.Problem("Größe <script>", "überprüfen", "haut-läsion & Co")
    body = bytes(pages.problem(found, 400).body).decode()
    assert "Größe &lt;script&gt;" in body
    assert "Haut-läsion &amp; Co" in body
