"""Proxies of the environment (``http_proxy``): no request to this machine goes through one."""

import os
import re
import urllib.request
from typing import Final
from urllib.parse import urlsplit

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
# For an httpx client: these hosts are asked directly, whatever the environment says.
DIRECT: Final = {"all://127.0.0.1": None, "all://localhost": None, "all://[::1]": None}
_CREDENTIALS: Final = re.compile(r"//[^/@\s]*@")


def exempt_loopback() -> None:
    """Add this machine's names to ``no_proxy`` and ``NO_PROXY`` of this process and those that it starts.

    Own entries of the user are kept. Nothing changes unless a variable names a proxy: where one is set, libraries no
    longer read the settings of the operating system.
    """
    if not any(value and _names_a_proxy(name) for name, value in os.environ.items()):
        return
    lower, upper = os.environ.get("no_proxy"), os.environ.get("NO_PROXY")
    os.environ["no_proxy"] = _with_loopback(lower or upper or "")
    os.environ["NO_PROXY"] = _with_loopback(upper or lower or "")


def through(url: str) -> str:
    """Return a clause for an error about ``url`` that names the proxy in between; empty without one."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    scheme = parts.scheme if proxies.get(parts.scheme) else "all"
    proxy = proxies.get(scheme)
    if not proxy or not parts.hostname or parts.hostname in LOOPBACK or urllib.request.proxy_bypass(parts.hostname):
        return ""
    name = f"{scheme}_proxy"
    variable = name if os.environ.get(name) else name.upper()
    named = f" of {variable}" if os.environ.get(variable) else ""
    shown = _CREDENTIALS.sub("//", proxy) if "//" in proxy else proxy.rpartition("@")[2]
    host = parts.hostname
    return f", through the proxy {shown}{named}; if {host} is reached without it, add {host} to no_proxy"


def _names_a_proxy(variable: str) -> bool:
    name = variable.lower()
    return name.endswith("_proxy") and name != "no_proxy"


def _with_loopback(entries: str) -> str:
    known = [entry for entry in re.split(r"[,\s]+", entries) if entry]
    if known == ["*"]:  # libraries compare the whole value
        return "*"
    return ",".join([*known, *(host for host in LOOPBACK if host not in known)])
