"""The front door with a small application behind it, and a file of API keys."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from buckler.serving import api_keys
from buckler.serving.api_keys import Role
from services.classifier.edge.front_door import FrontDoor
from services.classifier.endpoints import METHODS
from services.classifier.settings import Settings

PICTURE = {"image": ("Erika.jpg", b"pixels")}


class Keys:
    """A file with one API key of each role."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.predict, self.predict_key = api_keys.create(path, role=Role.PREDICT, name="ward-3")
        self.operate, self.operate_key = api_keys.create(path, role=Role.OPERATE, name="prometheus")


async def answer(request: Request) -> Response:
    await request.body()
    return PlainTextResponse("answered")


def front_door(settings: Settings, predict: Callable[[Request], Any] = answer) -> FrontDoor:
    others = [Route(path, answer) for path in METHODS if path != "/predict"]
    return FrontDoor(Starlette(routes=[Route("/predict", predict, methods=["POST"]), *others]), settings=settings)


@asynccontextmanager
async def client(app: FrontDoor) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
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
