"""Ports of the servers: chosen when a server starts, and remembered in .buckler/run/ports.json while one runs.

A port is the value of BUCKLER_<SERVER>_PORT, which must be free. Without it, it is the default, or the next free one if
another program has taken that: so two copies of the project can run side by side.
"""

import contextlib
import json
import os
import socket
from collections.abc import Collection, Mapping
from pathlib import Path

from infra.local import members, places
from infra.local.places import LocalError

Ports = Mapping[str, int]

DEFAULTS = {"mlflow": 5000, "service": 3000, "console": 8088, "prometheus": 9090, "alertmanager": 9093}
TITLES = {
    "mlflow": "MLflow",
    "service": "the service",
    "watch": "the watch",
    "console": "the console",
    "prometheus": "Prometheus",
    "alertmanager": "Alertmanager",
}
SEARCHED = 100  # ports after a default that are tried


def current() -> Ports:
    """Return the port of each server: where it runs, if one runs, else where it would start."""
    return {**_defaults(), **_explicit(), **_remembered()}


def choose(names: Collection[str], running: Collection[str]) -> Ports:
    """Choose, remember and return a port for each of ``names``; print those that are not the expected ones.

    Args:
        names: Servers of this machine.
        running: Those of them that run already, at their present port.

    Raises:
        LocalError: Another program has taken the port of an environment variable, or no port is free.
    """
    explicit, expected = _explicit(), current()
    chosen = {name: expected[name] for name in running}
    for name in names:
        if name in running:
            continue
        if name in explicit:
            chosen[name] = _checked(name, explicit[name])
        else:
            others = {*chosen.values(), *(port for other, port in expected.items() if other != name)}
            chosen[name] = _next_free(name, expected[name], others)
    remember(chosen)
    return {**expected, **chosen}


def remember(ports: Ports) -> None:
    """Store the ports of the servers that run; without any, the next start takes the defaults again."""
    if not ports:
        _file().unlink(missing_ok=True)
        return
    places.run_directory().mkdir(parents=True, exist_ok=True)
    _file().write_text(json.dumps(dict(ports), indent=2) + "\n", encoding="utf-8")


def forget(names: Collection[str]) -> None:
    """Drop the ports of servers that have ended; on a disk that cannot be written they stay, which does no harm."""
    with contextlib.suppress(OSError):
        remember({name: port for name, port in _remembered().items() if name not in names})


def _defaults() -> dict[str, int]:
    import yaml  # not for `down`, which must work without packages

    settings = yaml.safe_load((places.ROOT / "params.yaml").read_text(encoding="utf-8"))
    return {**DEFAULTS, "watch": int(settings["watch"]["port"])}


def _explicit() -> dict[str, int]:
    names = {name: _variable(name) for name in TITLES}
    return {name: _number(variable) for name, variable in names.items() if os.environ.get(variable)}


def _number(variable: str) -> int:
    text = os.environ[variable]
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise LocalError(f"{variable}: expected a port from 1 to 65535, got {text!r}")
    return int(text)


def _remembered() -> dict[str, int]:
    """Return the ports that servers have: as their processes say, else as stored."""
    marked = {member.name: member.port for member in members.found() if member.name in TITLES}
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
        return {**{str(name): int(port) for name, port in found.items()}, **marked}
    except (OSError, ValueError, AttributeError):
        return marked


def _checked(name: str, port: int) -> int:
    if not _free(port):
        raise LocalError(
            f"port {port} for {name} is taken by another program; "
            f"stop it, or set another port in {_variable(name)}, or none: then a free one is chosen"
        )
    return port


def _next_free(name: str, port: int, others: Collection[int]) -> int:
    if _free(port):
        return port
    for candidate in range(port + 1, port + 1 + SEARCHED):
        if candidate not in others and _free(candidate):
            print(f"  port {port} is taken by another program: {TITLES[name]} uses {candidate}", flush=True)
            return candidate
    raise LocalError(f"no port from {port} to {port + SEARCHED} is free for {name}; set one in {_variable(name)}")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _variable(name: str) -> str:
    return f"BUCKLER_{name.upper()}_PORT"


def _file() -> Path:
    return places.run_directory() / "ports.json"
