"""Whoever is between client, service and registry, or is a foreign page in a browser on the service's machine."""

import json
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from buckler.trust import receipt
from drills.report import Drill
from drills.scene import DrillScene
from drills.service import RunningService
from drills.trust.proxy import Change, Middle, between, unchanged
from drills.trust.stage import PICTURES, Observer, Stage, answered, observing, stage

DEADLINE_SECONDS = 15  # for a download
LINE = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
NEXT = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"  # a smuggled request must get no answer
HEADS = {
    "sends a length beside a transfer encoding": LINE
    + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "ends lines with bare line feeds": b"GET /livez HTTP/1.1\nHost: 127.0.0.1\n\n",
    "folds a line": b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: 1\r\n\tContent-Length: 9\r\n\r\n",
    "sends two lengths": LINE + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
}
HANDSHAKE = (
    b"GET /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
FOREIGN = b"GET /model HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"


def wire(scene: DrillScene, drill: Drill) -> None:
    """Ambiguous requests get one refusal; changed answers, pictures, releases and registries are noticed."""
    with stage(scene, drill) as trust, between(int(trust.url.rpartition(":")[2])) as registry:
        first = trust.champion()
        keys = scene.directory / "receipt-keys"
        receipt.generate_key_pair(keys)
        registry.answer = seen = Recorder()
        env = {
            "MLFLOW_TRACKING_URI": registry.url,
            "BUCKLER_RECEIPT_KEY": str(keys / "receipts.pem"),
            "BUCKLER_DOWNLOAD_SECONDS": str(DEADLINE_SECONDS),
        }
        with scene.service(env) as service, observing(service) as observer:
            _heads(trust, service)
            _answers(trust, service, keys / "receipts.pub")
            registry.answer = unchanged
            _downloads(trust, service, registry)
            stalled = _stalled(trust, service, observer, registry)
            second = trust.champion()
            observer.wait_for(second)
            _earlier_registry(trust, service, registry, seen)
            observer.wait(4)
        answered(drill, observer, (first, stalled, second))


# --- requests


def exchange(service: RunningService, content: bytes) -> bytes:
    """Return all that the service answers until it closes the connection."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(content)
        answer = b""
        while received := connection.recv(65536):
            answer += received
    return answer


def _heads(trust: Stage, service: RunningService) -> None:
    for name, head in HEADS.items():
        _answer(trust, name, exchange(service, head + NEXT), b"400", "bad_request")
    _answer(trust, "asks under a foreign host name (DNS rebinding)", exchange(service, FOREIGN), b"421", "host_unknown")
    _answer(trust, "asks to leave HTTP for a WebSocket", exchange(service, HANDSHAKE), b"405", "method_not_allowed")


def _answer(trust: Stage, attack: str, answer: bytes, status: bytes, code: str) -> None:
    refused = answer.startswith(b"HTTP/1.1 " + status) and answer.count(b"HTTP/1.1 ") == 1 and code.encode() in answer
    expected = f"expected one answer {status.decode()} {code}, got {answer[:300]!r}"
    trust.expect(attack, "service", f"{status.decode()} {code}", refused, expected)


# --- between client and service


def _answers(trust: Stage, service: RunningService, key: Path) -> None:
    """Change answers and pictures on their way; the client has the service's public key, or has not."""
    pictures = [trust.scene.directory / f"picture-{number}.png" for number in range(2)]
    for path, content in zip(pictures, PICTURES, strict=False):
        path.write_bytes(content)
    with between(service.port) as middle:
        kept = Recorder()
        middle.answer = kept
        plain, other = (("predict", str(path), "--url", middle.url) for path in pictures)
        checked = ("--receipt-key", str(key))
        trust.client_accepts("reads picture and answer, without TLS", *plain, *checked)
        earlier = kept.first("POST /predict")
        attacks: dict[str, tuple[tuple[Change, Change], tuple[str, ...]]] = {
            "changes the label of an answer": ((unchanged, _relabel), plain),
            "removes the receipt": ((unchanged, _without_receipt), plain),
            "changes the picture": ((_another_picture, unchanged), plain),
            "gives the answer to another picture": ((unchanged, lambda _, body: earlier), other),
        }
        for name, ((middle.request, middle.answer), arguments) in attacks.items():
            trust.client_refuses(name, *arguments, *checked, says="receipt")
        middle.request, middle.answer = unchanged, _relabel
        trust.client_accepts("changes the label; the client checks no receipts", *plain)
        middle.answer = lambda _, body: earlier
        trust.client_accepts("repeats an earlier answer to the same picture", *plain, *checked)


def _changed(body: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    content = json.loads(body)
    change(content)
    return json.dumps(content).encode()


def _relabel(_: str, body: bytes) -> bytes:
    labels = {"benign": "malignant", "malignant": "benign"}
    return _changed(body, lambda answer: answer.update(label=labels[answer["label"]]))


def _without_receipt(_: str, body: bytes) -> bytes:
    return _changed(body, lambda answer: answer.pop("receipt"))


def _another_picture(_: str, body: bytes) -> bytes:
    return body.replace(PICTURES[0], PICTURES[-1])


# --- between service and registry


def _downloads(trust: Stage, service: RunningService, registry: Middle) -> None:
    """Change the weights of a release while the service downloads it."""

    def flip(name: str, body: bytes) -> bytes:
        weights = name.startswith("GET") and name.endswith((".bin", ".keras"))
        return body[:-1] + bytes([body[-1] ^ 1]) if weights and body else body

    version = trust.scene.publish()
    registry.answer = flip
    promote = partial(trust.signs, "promote", "--version", version)
    trust.service_refuses(service, "changes the weights while the service downloads them", promote, "digest")
    registry.answer = unchanged


def _stalled(trust: Stage, service: RunningService, observer: Observer, registry: Middle) -> str:
    """Keep a download waiting: it ends at its deadline, and is repeated when nobody stalls it any more."""

    def stall(name: str, body: bytes) -> bytes:
        if "/mlflow-artifacts/" in name:
            time.sleep(3 * DEADLINE_SECONDS)
        return body

    version = trust.scene.publish()
    registry.answer = stall
    promote = partial(trust.signs, "promote", "--version", version)
    trust.service_refuses(service, "stalls the download of a release", promote, "unavailable")
    registry.answer = unchanged
    observer.wait_for(version)
    return version


def _earlier_registry(trust: Stage, service: RunningService, registry: Middle, seen: "Recorder") -> None:
    """Answer the service with what the registry said at first."""

    def replay() -> None:
        registry.answer = seen.replay

    trust.service_refuses(service, "answers with an earlier state of the registry", replay, "put_back")
    registry.answer = unchanged


class Recorder:
    """Keeps the first answer to each request about the registry or the service, and can repeat it."""

    def __init__(self) -> None:
        self._answers: dict[str, bytes] = {}

    def __call__(self, name: str, body: bytes) -> bytes:
        """Return ``body``."""
        self._answers.setdefault(name, body)
        return body

    def first(self, name: str) -> bytes:
        """Return the first answer to a request."""
        return self._answers[name]

    def replay(self, name: str, body: bytes) -> bytes:
        """Return the first answer again, or ``body`` to a request that is new."""
        return self._answers.get(name, body)
