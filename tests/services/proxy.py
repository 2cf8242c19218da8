"""Runs the proxy in front of several services: the real nginx with the project's configuration, at other ports."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.servers import ROOT, free_port, started
from drills.service import wait_until
from tests.absent import absent

CONFIGURATION = ROOT / "infra/proxy/nginx.conf"
ADDRESSES = {"skin": "service:3000", "retina": "retina:3000"}  # in the configuration
HEALTH = "127.0.0.1:8081"


def program() -> str:
    """Return the path of nginx; Debian installs it where ordinary users do not look."""
    path = shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))
    if path is None:
        absent("nginx is not installed (Debian: nginx)")
    return path


def configuration(ports: Mapping[str, int], health: int) -> str:
    """Return the configuration with services at these ports of loopback."""
    text = CONFIGURATION.read_text(encoding="utf-8")
    changes = {ADDRESSES[name]: f"127.0.0.1:{port}" for name, port in ports.items()} | {HEALTH: f"127.0.0.1:{health}"}
    for old, new in changes.items():
        assert text.count(f" {old};") == 1, old
        text = text.replace(f" {old};", f" {new};")
    return text


@contextmanager
def proxy(directory: Path, ports: Mapping[str, int], listen: str = "listen {address};") -> Iterator[str]:
    """Run the proxy in front of services at ``ports`` until the context ends; yield its host and port.

    Args:
        directory: For its files; ``log`` there is its output.
        ports: Port on loopback of each service, by its name.
        listen: The file ``listen.conf``; certificate and key lie in ``directory/listen``.
    """
    address, health = f"127.0.0.1:{free_port()}", free_port()
    (directory / "listen").mkdir(parents=True, exist_ok=True)
    (directory / "listen/listen.conf").write_text(listen.format(address=address))
    (directory / "nginx.conf").write_text(configuration(ports, health))
    log = directory / "log"
    command = [program(), "-p", str(directory), "-c", str(directory / "nginx.conf")]
    with started(command, env=dict(os.environ), log=log) as process:
        wait_until(lambda: process.poll() is not None or _healthy(health), 30, "the proxy")
        assert process.poll() is None, log.read_text()
        yield address


def _healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/livez", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
