"""Which addresses a webhook may call: public ones, and of the site's own those that are set.

Whoever may add a webhook could else have Etude call what only this machine reaches: a cloud's
credentials, a database, somebody's printer. What is public is listed here by IANA's registries and
not asked of Python, whose idea of it changes with its versions.
"""

import ipaddress
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from app.core import settings

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NOT_PUBLIC = tuple(
    ip_network(each)
    for each in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        # Of 2000::/3, which alone is given out; 2001::/23 has Teredo among others.
        *("2001::/23", "2001:db8::/32", "3fff::/20"),
    )
)
_GIVEN_OUT = ip_network("2000::/3")
# Of these the last or the middle 32 bits are an IPv4 address, and that is where it leads.
_NAT64, _6TO4 = ip_network("64:ff9b::/96"), ip_network("2002::/16")
_LINK_LOCAL = (ip_network("169.254.0.0/16"), ip_network("fe80::/10"))
_NOBODYS = (ip_network("0.0.0.0/8"), ip_network("::/128"), ip_network("224.0.0.0/4"),
            ip_network("240.0.0.0/4"), ip_network("ff00::/8"))  # fmt: skip


def may_call(host: str, address: str, *, may_be_inside: bool = False) -> bool:
    """Say whether a receiver may be called at an address that its host leads to.

    Args:
        host: The name, or the address, in the webhook's URL.
        address: What it was resolved to, and what is going to be called.
        may_be_inside: It is from before ETUDE_WEBHOOK_HOSTS, when private ones were called.
    """
    leads_to = _leads_to(ipaddress.ip_address(address.partition("%")[0]))
    if _is_in(leads_to, _NOBODYS):
        return False
    if is_public(leads_to):
        return True
    names, networks = _allowed()
    if _is_in(leads_to, networks):
        return True
    # A name could be made to lead to a cloud's credentials: for these the address itself is set.
    if _is_in(leads_to, _LINK_LOCAL):
        return False
    return may_be_inside or host.lower().rstrip(".") in names


def is_public(address: Address) -> bool:
    """Say whether an address is one of the whole internet's."""
    if isinstance(address, IPv6Address) and address not in _GIVEN_OUT:
        return False
    return not _is_in(address, _NOT_PUBLIC)


def _leads_to(address: Address) -> Address:
    """Return the IPv4 address that an address of IPv6 stands for, if it does."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        if address in _6TO4:
            return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    return address


def _allowed() -> tuple[set[str], list[Network]]:
    names: set[str] = set()
    networks: list[Network] = []
    for each in settings.get().webhook_hosts:
        try:
            networks.append(ip_network(each.strip("[]")))
        except ValueError:
            names.add(each.lower().rstrip("."))
    return names, networks


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in each for each in networks)
