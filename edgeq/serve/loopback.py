"""An address or a name to listen on -> can only this box reach it?"""

from __future__ import annotations

import ipaddress
import socket


def is_loopback_address(address: str) -> bool:
    """True for a numeric address of the loopback interface; a wildcard is none.

    An IPv6 zone (`fe80::1%eth0`) is dropped, an IPv4 address inside an IPv6 one is taken as such.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)


def is_loopback_host(host: str) -> bool:
    """True where every address of `host` is a loopback one; False where nobody knows the name."""
    if host == "localhost" or is_loopback_address(host):
        return True
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(is_loopback_address(str(entry[4][0])) for entry in found)
