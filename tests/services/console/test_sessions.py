"""Who may do what in the console: tokens, host names, signing in and out."""

import httpx
import pytest

from buckler.serving import api_keys
from buckler.serving.api_keys import Role
from tests.services.console.browser import client, sign_in, token_of

pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.mark.parametrize("path", ["/ask", "/attack", "/attack/prepare", "/engineer/promote", "/engineer/rollback"])
@pytest.mark.parametrize("token", [None, "", "made-up"])
def test_actions_need_the_token_of_a_page_of_the_console(path, token):
    headers = {} if token is None else {"x-buckler-token": token}
    assert client().post(path, headers=headers).status_code == 403


def test_a_token_is_valid_for_one_browser_only():
    theirs = token_of(client())
    ours = client()
    ours.get("/")
    assert ours.post("/engineer/rollback", headers={"x-buckler-token": theirs}).status_code == 403


@pytest.mark.parametrize("require", ["auto", "never"])
def test_without_sign_in_a_foreign_host_name_reads_no_token(require):
    answer = client("http://evil.example", require_keys=require).get("/")
    assert answer.status_code == 421
    assert "data-token" not in answer.text
    assert client("http://localhost:8088", require_keys=require).get("/engineer").status_code == 200


def test_a_name_of_the_settings_is_accepted():
    names = {"require_keys": "never", "host_names": "console.hospital.example, other", "console_host": "0.0.0.0"}
    assert client("https://console.hospital.example", **names).get("/engineer").status_code == 200
    assert client("https://evil.example", **names).get("/engineer").status_code == 421


def test_with_sign_in_any_name_is_accepted(guarded):
    assert guarded.get("/sign-in").status_code == 200


def test_without_sign_in_a_page_redirects_and_a_panel_is_refused(guarded):
    answer = guarded.get("/engineer", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=/engineer")
    assert guarded.get("/engineer/models").status_code == 401


def test_a_key_opens_only_the_pages_of_its_role(guarded, ring):
    assert sign_in(guarded, ring[1][Role.PREDICT], "/").headers["location"] == "/"
    assert guarded.get("/", follow_redirects=False).status_code == 200
    assert guarded.get("/engineer", follow_redirects=False).status_code == 303
    assert guarded.post("/engineer/rollback", headers={"x-buckler-token": token_of(guarded)}).status_code == 401


def test_a_second_key_adds_its_role(guarded, ring):
    for secret in ring[1].values():
        sign_in(guarded, secret)
    assert guarded.get("/", follow_redirects=False).status_code == 200
    assert guarded.get("/engineer", follow_redirects=False).status_code == 200


def test_the_cookie_is_hidden_from_scripts_and_other_sites(guarded, ring):
    cookie = sign_in(guarded, ring[1][Role.OPERATE]).headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=strict", "secure", "max-age=1800"))
    assert ring[1][Role.OPERATE].lower() not in cookie


def test_a_wrong_key_is_refused_with_a_reason(guarded):
    answer = sign_in(guarded, "bk_wrong")
    assert answer.status_code == 401
    assert "unknown or was revoked" in answer.text


def test_revoking_a_key_ends_its_sessions(guarded, ring):
    sign_in(guarded, ring[1][Role.OPERATE])
    assert guarded.get("/engineer", follow_redirects=False).status_code == 200
    (key,) = [key for key in api_keys.read(ring[0]) if key.role == Role.OPERATE]
    api_keys.revoke(ring[0], key.id)
    assert guarded.get("/engineer", follow_redirects=False).status_code == 303


def test_signing_out_forgets_the_key(guarded, ring):
    sign_in(guarded, ring[1][Role.OPERATE])
    guarded.post("/sign-out", headers={"x-buckler-token": token_of(guarded, "/engineer")}, follow_redirects=False)
    assert guarded.get("/engineer", follow_redirects=False).status_code == 303


def test_a_copy_of_the_cookie_is_invalid_after_signing_out(guarded, ring):
    sign_in(guarded, ring[1][Role.OPERATE])
    copied = guarded.cookies
    token = token_of(guarded, "/engineer")
    guarded.post("/sign-out", headers={"x-buckler-token": token}, follow_redirects=False)
    guarded.cookies = copied
    assert guarded.get("/engineer", follow_redirects=False).status_code == 303
    assert guarded.get("/engineer/models").status_code == 401
    assert guarded.post("/engineer/rollback", headers={"x-buckler-token": token}).status_code in (401, 403)


def test_adding_a_key_ends_the_session_before(guarded, ring):
    sign_in(guarded, ring[1][Role.OPERATE])
    before = guarded.cookies
    sign_in(guarded, ring[1][Role.PREDICT])
    assert guarded.get("/engineer", follow_redirects=False).status_code == 200
    guarded.cookies = before
    assert guarded.get("/engineer", follow_redirects=False).status_code == 303


def test_signing_out_in_one_browser_leaves_the_other_signed_in(guarded, ring):
    sign_in(guarded, ring[1][Role.OPERATE])
    first = guarded.cookies
    guarded.cookies = httpx.Cookies()
    sign_in(guarded, ring[1][Role.OPERATE])
    guarded.post("/sign-out", headers={"x-buckler-token": token_of(guarded, "/engineer")}, follow_redirects=False)
    guarded.cookies = first
    assert guarded.get("/engineer", follow_redirects=False).status_code == 200


@pytest.mark.parametrize(
    ("trusted", "claimed", "secure"),
    [
        (None, "https", False),
        ("127.0.0.1", "https", True),
        ("10.0.0.0/8, 127.0.0.1", "https", True),
        ("10.0.0.0/8", "https", False),
        ("127.0.0.1", "http", False),
        ("127.0.0.1", None, False),
    ],
)
def test_the_cookie_is_secure_if_a_trusted_proxy_terminates_tls(ring, trusted, claimed, secure):
    settings = {"console_host": "0.0.0.0", "api_keys": ring[0], "console_trusted_proxies": trusted}
    forwarded = {"x-forwarded-proto": claimed} if claimed else {}
    browser = client("http://console.hospital.example", **settings)
    token = token_of(browser, "/sign-in")
    form = {"token": token, "key": ring[1][Role.OPERATE]}
    answer = browser.post("/sign-in", data=form, headers=forwarded, follow_redirects=False)
    assert answer.status_code == 303
    assert ("secure" in answer.headers["set-cookie"].lower()) is secure


def test_signing_in_never_redirects_to_another_site(guarded, ring):
    assert sign_in(guarded, ring[1][Role.OPERATE], "https://evil.example/").headers["location"] == "/"
