"""The front door with small handlers behind it, and a file of API keys."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import httpx
from starlette.responses import PlainTextResponse, Response

from buckler.serving import api_keys
from buckler.serving.api_keys import Role
from services.classifier.edge.front_door import FrontDoor
from services.classifier.endpoints import ENDPOINTS
from services.classifier.requests import Call
from services.classifier.routing import Table
from services.classifier.settings import Settings

PICTURE = {"image": ("Erika.jpg", b"pixels")}


class Keys:
    """A file with one API key of each role."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.predict, self.predict_key = api_keys.create(path, role=Role.PREDICT, name="ward-3")
        self.operate, self.operate_key = api_keys.create(path, role=Role.OPERATE, name="prometheus")


async def answer(call: Call) -> Response:
    return PlainTextResponse("answered")


def front_door(settings: Settings, predict: Callable[[Call], Any] = answer) -> FrontDoor:
    """Return the front door of all endpoints; ``predict`` answers ``/predict``."""

    async def not_http(*_: Any) -> None:
        raise AssertionError("every HTTP request is answered by the front door")

    rows = [replace(row, handler=predict if row.name == "predict" else answer) for row in ENDPOINTS]
    return FrontDoor(not_http, settings, Table(tuple(rows)), pipeline=lambda: cast(Any, None))


@asynccontextmanager
async def client(app: FrontDoor) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1") as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def ask(app: FrontDoor, method: str, path: str, headers: Any = None) -> httpx.Response:
    async def once() -> httpx.Response:
        async with client(app) as http:
            return await http.request(method, path, headers=headers, files=PICTURE if method == "POST" else None)

    return asyncio.run(once())


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def required(keys: Keys, **changes: Any) -> Settings:
    return Settings(**{"api_keys": keys.path, "require_keys": "always", **changes})
