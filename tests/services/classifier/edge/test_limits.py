"""Rate and concurrency limits of one key and of all clients."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse, Response

from buckler.serving import api_keys
from buckler.serving.api_keys import Role
from services.classifier.requests import Call
from tests.services.door import PICTURE, Keys, ask, bearer, client, code, front_door, required


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "api.json")


def test_a_key_over_its_rate_gets_retry_after_and_others_are_served(keys: Keys):
    app = front_door(required(keys, key_requests_per_second=0.5, key_burst=3))
    _, other = api_keys.create(keys.path, role=Role.PREDICT, name="ward-4")
    answers = [ask(app, "POST", "/predict", bearer(keys.predict_key)) for _ in range(4)]
    assert [response.status_code for response in answers] == [200, 200, 200, 429]
    assert code(answers[-1]) == (429, "rate_limited")
    assert answers[-1].headers["retry-after"] in ("1", "2")
    assert ask(app, "POST", "/predict", bearer(other)).status_code == 200


def test_refused_keys_and_scrapes_do_not_count_towards_the_rate(keys: Keys):
    app = front_door(required(keys, key_requests_per_second=0.1, key_burst=1))
    for _ in range(5):
        assert ask(app, "POST", "/predict", bearer(keys.operate_key)).status_code == 403
        assert ask(app, "GET", "/metrics", bearer(keys.operate_key)).status_code == 200
    assert ask(app, "POST", "/predict", bearer(keys.predict_key)).status_code == 200


class Gate:
    """An endpoint whose answers wait until they are released."""

    def __init__(self) -> None:
        self.waiting = 0
        self.open = asyncio.Event()

    async def answer(self, call: Call) -> Response:
        self.waiting += 1
        await self.open.wait()
        return PlainTextResponse("answered")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def test_the_concurrent_requests_of_a_key_are_limited(keys: Keys):
    async def scene() -> None:
        gate = Gate()
        async with client(front_door(required(keys, key_concurrency=2), gate.answer)) as http:

            def post() -> Any:
                return http.post("/predict", files=PICTURE, headers=bearer(keys.predict_key))

            first = [asyncio.ensure_future(post()) for _ in range(2)]
            await until(lambda: gate.waiting == 2)
            third = await post()
            assert code(third) == (429, "too_many_at_once")
            assert third.headers["retry-after"] == "1"
            gate.open.set()
            assert [response.status_code for response in await asyncio.gather(*first)] == [200, 200]
            assert (await post()).status_code == 200

    asyncio.run(scene())


@pytest.mark.parametrize("require_keys", ["always", "never"])
def test_a_request_over_the_total_limit_is_refused_before_it_is_read(keys: Keys, require_keys: str):
    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError("nobody may ask for the body")
        yield b""

    async def scene() -> None:
        gate = Gate()
        settings = required(keys, max_in_progress=3, require_keys=require_keys)
        async with client(front_door(settings, gate.answer)) as http:
            headers = bearer(keys.predict_key)
            first = [asyncio.ensure_future(http.post("/predict", files=PICTURE, headers=headers)) for _ in range(3)]
            await until(lambda: gate.waiting == 3)
            for _ in range(20):
                refused = await http.post("/predict", content=unread(), headers=headers)
                assert code(refused) == (503, "overloaded")
                assert refused.headers["retry-after"] == "1"
            # A full service still answers probes and scrapes.
            for path in ("/livez", "/readyz", "/healthz", "/docs", "/metrics"):
                assert (await http.get(path, headers=bearer(keys.operate_key))).status_code == 200
            gate.open.set()
            assert {response.status_code for response in await asyncio.gather(*first)} == {200}
            assert (await http.post("/predict", files=PICTURE, headers=headers)).status_code == 200

    asyncio.run(scene())


def test_a_slow_sender_occupies_a_place_only_until_its_timeout(keys: Keys):
    async def trickle() -> AsyncIterator[bytes]:
        yield b"--b\r\n"
        await asyncio.sleep(5)

    async def scene() -> None:
        settings = required(keys, key_concurrency=1, body_timeout_seconds=0.2)
        headers = {**bearer(keys.predict_key), "content-type": "multipart/form-data; boundary=b"}
        async with client(front_door(settings)) as http:
            slow = asyncio.ensure_future(http.post("/predict", content=trickle(), headers=headers))
            await asyncio.sleep(0.05)
            second = await http.post("/predict", files=PICTURE, headers=bearer(keys.predict_key))
            assert code(second) == (429, "too_many_at_once")
            assert code(await slow) == (408, "body_timeout")
            third = await http.post("/predict", files=PICTURE, headers=bearer(keys.predict_key))
            assert third.status_code == 200

    asyncio.run(scene())


def test_failed_requests_free_their_place(keys: Keys):
    async def fail(call: Call) -> Response:
        raise RuntimeError

    async def hang_up() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def nobody(message: object) -> None:
        """Discard messages to a client that closed the connection."""

    async def scene() -> None:
        app = front_door(required(keys, max_in_progress=1, key_concurrency=1), fail)
        headers = bearer(keys.predict_key)
        raw = [
            (b"authorization", headers["authorization"].encode()),
            (b"content-type", b"multipart/form-data; boundary=b"),
        ]
        async with client(app) as http:
            for _ in range(2):
                assert code(await http.post("/predict", content=b"{}", headers=headers))[0] == 415
                assert code(await http.post("/predict", files=PICTURE, headers=headers)) == (500, "internal_error")
                await app({"type": "http", "path": "/predict", "method": "POST", "headers": raw}, hang_up, nobody)

    asyncio.run(scene())


def test_bodies_together_are_bounded_and_their_memory_is_free_after_the_answer(keys: Keys):
    entered, leave = asyncio.Event(), asyncio.Event()

    async def wait(call: Call) -> Response:
        entered.set()
        await leave.wait()
        return Response()

    async def scene() -> None:
        app = front_door(required(keys, bodies_limit_bytes=5000), wait)
        headers = bearer(keys.predict_key)
        large = {"image": bytes(3000)}
        async with client(app) as http:
            first = asyncio.ensure_future(http.post("/predict", files=large, headers=headers))
            await entered.wait()
            second = await http.post("/predict", files=large, headers=headers)
            assert code(second) == (503, "overloaded")
            assert "hold 3," in second.text
            assert "of 5,000 bytes; try again later" in second.text
            assert second.headers["retry-after"] == "1"
            assert code(await http.post("/predict", files={"image": bytes(6000)}, headers=headers))[0] == 503
            leave.set()
            assert (await first).status_code == 200
            assert (await http.post("/predict", files=large, headers=headers)).status_code == 200

    asyncio.run(scene())
