"""Sends requests to a console in this process, as a browser does."""

import asyncio
import re

import httpx

from services.console.app import create
from services.console.settings import Settings

AWAY = "http://127.0.0.1:9"
NO_SERVERS = {"service_url": AWAY, "prometheus_url": AWAY, "alertmanager_url": AWAY, "watch_url": AWAY}
TOKEN = re.compile(r'data-token="([^"]+)"')


class Browser:
    """Sends requests to a console in this process and keeps its cookies."""

    def __init__(self, base_url: str, settings: Settings) -> None:
        self._app, self._base_url = create(settings), base_url
        self.cookies = httpx.Cookies()

    def get(self, path: str, **options: bool) -> httpx.Response:
        return self._ask("GET", path, options)

    def post(self, path: str, **options: object) -> httpx.Response:
        return self._ask("POST", path, options)

    def _ask(self, method: str, path: str, options: dict) -> httpx.Response:
        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url=self._base_url, cookies=self.cookies) as http:
                answer = await http.request(method, path, **{"follow_redirects": True, **options})
                self.cookies = httpx.Cookies(http.cookies)
                return answer

        return asyncio.run(once())


def client(base_url: str = "http://127.0.0.1:8088", **settings: object) -> Browser:
    return Browser(base_url, Settings(**{**NO_SERVERS, **settings}))


def token_of(browser: Browser, path: str = "/") -> str:
    found = TOKEN.search(browser.get(path).text)
    assert found
    return found[1]


def sign_in(browser: Browser, secret: str, where: str = "/engineer"):
    token = token_of(browser, "/sign-in")
    return browser.post("/sign-in", data={"token": token, "key": secret, "next": where}, follow_redirects=False)
