"""The attack panel: what it says about an attack, and its routes with the real service."""

import asyncio
import html
from pathlib import Path

import httpx
import pytest

from buckler.client import Answer
from services.console import attack_preview, pages
from services.console.app import create
from services.console.attack_preview import AttackResult
from services.console.attackers import ATTACKERS, INFORMED, NOISE, PGD
from services.console.settings import Settings
from tests.key_files import public_env
from tests.services.console.answers import answer
from tests.services.console.browser import NO_SERVERS, TOKEN, client, token_of
from tests.services.running import LABELS, Server

pytestmark = pytest.mark.usefixtures("empty_folder")


def said(after: Answer, before: Answer | None = None, *, attacker=PGD, largest: int = 2) -> str:
    """Return the text of the panel."""
    result = AttackResult(attacker, 2, largest, "data:,", "data:,", "data:,", before or answer(), after)
    part = bytes(pages.render("attack", attack=result, amplification=attack_preview.AMPLIFICATION).body).decode()
    return " ".join(html.unescape(part).split())


def test_an_attack_that_slips_through_is_named_as_such():
    text = said(answer("benign"))
    assert "This attack changed the answer and no check noticed. The label was malignant and is now benign." in (
        text.replace("</strong>", "")
    )
    assert "No check gave a reason for review." not in text  # said already


def test_a_flagged_attack_and_one_that_another_check_stops_are_told_apart():
    flagged = said(answer("benign", "adversarial", flagged=True))
    assert "changed the answer, and the detector flagged it." in flagged
    missed = said(answer("benign", "danger_not_excluded"))
    assert "The detector missed it, but the answer needs review for another reason." in missed
    assert "no check noticed" not in flagged + missed


def test_the_many_pictures_of_the_panel_do_not_count_as_noticing():
    text = said(answer("benign", "query_attack"))
    assert "no check noticed" in text
    assert "An attacker who computes elsewhere sends only one." in text


def test_a_reason_that_was_there_before_is_marked():
    before = answer("malignant", "low_confidence")
    assert "as before the attack" in said(answer("benign", "low_confidence"), before)
    assert "as before the attack" not in said(answer("benign", "low_confidence"))


def test_an_attack_that_fails_says_so_and_promises_nothing():
    text = said(answer())
    assert "This attack did not change the answer." in text
    assert "The detector did not flag the changed picture." in text
    assert "No check gave a reason for review." in text
    assert "An attack that fails here proves nothing" in text


def test_noise_is_a_control():
    text = said(answer("benign"), attacker=NOISE)
    assert "This noise changed the answer" in text
    assert "No attacker is needed for that" in text
    assert "No attacker is needed" not in said(answer("benign"))


def test_an_attack_without_a_gradient_says_that_it_changed_nothing():
    assert "found no direction and changed nothing" in said(answer(), largest=0)


@pytest.mark.parametrize("radius", [1, 8])
def test_no_perturbation_is_cut_off(radius):
    assert 0.5 - attack_preview.AMPLIFICATION * radius / 255 >= 0
    assert 0.5 + attack_preview.AMPLIFICATION * radius / 255 <= 1


def test_an_attack_needs_the_token_and_a_known_choice():
    browser = client()
    picture, headers = b"\xff\xd8\xff", {"x-buckler-token": token_of(browser)}
    assert browser.post("/attack?attack=fgsm&radius=2/255", content=picture).status_code == 403
    for query, name in (("attack=magic&radius=2/255", "attack"), ("attack=fgsm&radius=0.5", "radius")):
        refused = browser.post(f"/attack?{query}", content=picture, headers=headers)
        assert refused.status_code == 422
        assert f"expected {name} to be one of" in refused.text.lower()


def test_the_progress_needs_the_role_of_the_picture_page(guarded):
    assert guarded.get("/attack/progress").status_code == 401
    assert "Attacking …" in client().get("/attack/progress").text


@pytest.mark.slow
def test_each_attack_is_sent_to_the_service_and_shows_its_progress(
    server: Server, release: Path, keys: Path, picture: bytes, monkeypatch: pytest.MonkeyPatch
):
    for name, value in public_env(keys).items():
        monkeypatch.setenv(name, value)
    app = create(Settings(**{**NO_SERVERS, "service_url": server.url, "release": release}))

    async def scene() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1:8088") as http:
            token = TOKEN.search((await http.get("/")).text)[1]

            async def attack(name: str) -> httpx.Response:
                query, headers = f"attack={name}&radius=4/255", {"x-buckler-token": token}
                return await http.post(f"/attack?{query}", content=picture, headers=headers, timeout=180)

            first = asyncio.ensure_future(attack(INFORMED.name))
            seen = set()
            while not first.done():
                seen.add((await http.get("/attack/progress")).text.strip().split()[0])
                await asyncio.sleep(0.01)
            assert "Loading" in seen
            for response in [await first, *[await attack(each.name) for each in ATTACKERS]]:
                assert response.status_code == 200
                assert response.text.count('src="data:image/png;base64,') == 3
                assert "Largest change 4 of 255 levels" in response.text
                assert any(
                    f"stays {label}" in response.text or "changed the answer" in response.text for label in LABELS
                )

    asyncio.run(scene())
