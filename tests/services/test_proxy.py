"""What the proxy passes on and what it answers itself: the real nginx in front of a server that repeats requests."""

import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.servers import ROOT, free_port
from tests.services.proxy import proxy

PAGE = ROOT / "docs/how-to/several-models.md"


class Repeating(BaseHTTPRequestHandler):
    """Answers with the request that it got."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        content = json.dumps(
            {"path": self.path, "headers": [(name.lower(), text) for name, text in self.headers.items()]}
        )
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.send_header("x-request-id", "0" * 32)
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""


@contextmanager
def repeating() -> Iterator[int]:
    """Run the repeating server until the context ends; yield its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Repeating)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proxy")


@pytest.fixture(scope="module")
def address(directory: Path) -> Iterator[str]:
    """The proxy in front of a repeating server as ``skin``; nothing runs as ``retina``."""
    with repeating() as port, proxy(directory, {"skin": port, "retina": free_port()}) as address:
        yield address


def sent(address: str, target: str, *lines: str) -> tuple[int, Any]:
    """Send the head of a request as it is; return status and content of the answer."""
    host, _, port = address.partition(":")
    head = [f"{target} HTTP/1.1", f"Host: {host}", "Connection: close", *lines]
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    begin, _, body = answer.partition(b"\r\n\r\n")
    return int(begin.split()[1]), json.loads(body)


@pytest.mark.parametrize(
    ("path", "passed"),
    [
        ("/skin/predict", "/predict"),
        ("/skin/", "/"),
        ("/skin/explain?label=a%20b&frame=2", "/explain?label=a%20b&frame=2"),
        ("/skin/v2/models/a%3Fb/ready", "/v2/models/a%3Fb/ready"),
        ("/skin/docs//a", "/docs//a"),
        ("/skin/skin/docs", "/skin/docs"),
        ("/skin/docs/../model", "/model"),
        ("http://elsewhere.example/skin/model", "/model"),
    ],
)
def test_the_service_gets_the_path_without_its_name(address: str, path: str, passed: str):
    status, content = sent(address, f"GET {path}")
    assert (status, content["path"]) == (200, passed)


@pytest.mark.parametrize(
    "path", ["/", "/predict", "/dental/predict", "/skins/predict", "/SKIN/model", "/skin/../model"]
)
def test_a_path_without_the_name_of_a_service_is_not_found(address: str, path: str):
    status, content = sent(address, f"GET {path}")
    assert (status, content["error"]["code"]) == (404, "not_found")
    assert content["error"]["message"].startswith("expected a path that begins with the name of a service")


def test_the_name_alone_leads_to_the_first_page_with_the_query(address: str):
    answer = httpx.get(f"http://{address}/skin?a=b")
    assert (answer.status_code, answer.headers["location"]) == (308, "/skin/?a=b")


def test_a_client_cannot_claim_another_address_or_to_be_the_watch(address: str):
    claims = {"X-Forwarded-For": "10.1.1.1", "X-Forwarded-Proto": "gopher", "Forwarded": "for=10.1.1.1"}
    claims |= {"X-Buckler-Watch": "1", "Authorization": "Bearer secret"}
    answer = httpx.get(f"http://{address}/skin/", headers=claims).json()
    headers = answer["headers"]
    assert len(dict(headers)) == len(headers)
    found = dict(headers)
    assert found["x-forwarded-for"] == "127.0.0.1"
    assert found["x-forwarded-proto"] == "http"
    assert found.keys().isdisjoint({"forwarded", "x-buckler-watch", "connection"})
    assert (found["host"], found["authorization"]) == ("127.0.0.1", "Bearer secret")


def test_a_body_above_the_limit_is_refused_before_it_is_sent(address: str):
    status, content = sent(address, "POST /skin/predict", f"Content-Length: {64 * 1024 * 1024 + 1}")
    assert (status, content["error"]["code"]) == (413, "body_too_large")
    assert content["error"]["message"] == "expected a body of at most 64 MiB; send a smaller one"


def test_a_service_that_does_not_run_is_named(address: str):
    answer = httpx.get(f"http://{address}/retina/model")
    assert (answer.status_code, answer.headers["retry-after"]) == (502, "5")
    assert answer.headers["content-type"] == "application/json"
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    error = answer.json()["error"]
    assert error["code"] == "service_unreachable"
    assert error["message"] == "the service retina gives no answer; try again later, or tell its operator"


def test_the_log_has_address_and_request_id_and_nothing_that_a_client_wrote(address: str, directory: Path):
    httpx.get(f"http://{address}/skin/Erika?label=Erika", headers={"user-agent": "Erika"})
    line = (directory / "log").read_text().splitlines()[-1]
    assert re.search(rf" address=127\.0\.0\.1 service=skin method=GET status=200 .* request={'0' * 32}$", line)
    assert "Erika" not in line


def certificate(folder: Path) -> None:
    """Write a certificate of 127.0.0.1 that is signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    begin = datetime.now(UTC) - timedelta(minutes=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(begin).not_valid_after(begin + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    found = builder.sign(key, hashes.SHA256())
    folder.mkdir()
    (folder / "certificate.pem").write_bytes(found.public_bytes(serialization.Encoding.PEM))
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*private))


def test_the_lines_of_the_page_add_tls(tmp_path: Path):
    (lines,) = re.findall(r"```nginx\n(.+?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert "listen 8080 ssl;" in lines
    certificate(tmp_path / "listen")
    with repeating() as port, proxy(tmp_path, {"skin": port}, lines.replace("8080", "{address}")) as address:
        trusted = ssl.create_default_context(cafile=str(tmp_path / "listen/certificate.pem"))
        url = f"https://localhost:{address.rpartition(':')[2]}"
        content = httpx.get(f"{url}/skin/model", verify=trusted).json()
        assert dict(content["headers"])["x-forwarded-proto"] == "https"
        assert httpx.get(f"http://{address}/skin/model").status_code == 400
