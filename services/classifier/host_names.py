"""Which names in the header ``Host`` a process answers that asks for no keys.

A foreign page can have its own name resolve to this machine (DNS rebinding); for the browser, this process then belongs
to that page, which can read its answers. The name in ``Host`` is still the foreign one.
"""

import ipaddress
import re
from collections.abc import Collection

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/?#@\[\]]+))(?::[0-9]*)?")


def is_loopback(host: str | None) -> bool:
    """Return whether only this machine can reach a server bound to ``host``."""
    address = _address(host or "")
    return address is not None and address.is_loopback


def is_own(header: str, *, bound: str | None, names: Collection[str]) -> bool:
    """Return whether a page of this process, and no other, can have sent the header ``Host``.

    Args:
        header: ``name``, ``name:port``, ``address:port`` or ``[address]:port``.
        bound: Address that the process is bound to.
        names: Further names of this process, in lower case.
    """
    found = _HOST.fullmatch(header)
    if not found:
        return False
    name = (found[1] or found[2]).lower().removesuffix(".")
    if name == "localhost" or name in names:
        return True
    address = _address(name)
    # No foreign page has an address of this process as its name. On loopback, only loopback can be meant.
    return address is not None and (address.is_loopback or not is_loopback(bound))


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:  # a name may resolve to any address
        return None
