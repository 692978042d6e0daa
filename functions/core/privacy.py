"""The privacy policy of rows: addresses are kept, truncated or hashed. Archive and dead letters keep the bytes."""

import dataclasses
import hashlib
import hmac
import ipaddress

from functions.settings import InvalidSettings, Settings

_PREFIX_LENGTH = {4: 24, 6: 48}

_BEFORE_IPV4 = {
    int(ipaddress.IPv6Address(prefix)) >> 32
    for prefix in (
        "::",  # IPv4-compatible, RFC 4291
        "::ffff:0:0",  # IPv4-mapped, RFC 4291
        "::ffff:0:0:0",  # IPv4-translated, RFC 7915
        "64:ff9b::",  # NAT64, RFC 6052
    )
}
"""The first 96 bits of an IPv6 address whose last 32 bits are an IPv4 address."""

_LOOPBACK = ipaddress.IPv6Address("::1")
"""Begins as the IPv4-compatible addresses do, as the unspecified address does."""


@dataclasses.dataclass(frozen=True, slots=True)
class Privacy:
    """The policy for addresses.

    Attributes:
        ip_policy: `keep`, `truncate` (the network of /24 or /48) or `hash` (HMAC-SHA256, 64 hex digits).
        ip_hash_key: The key of `hash`.
    """

    ip_policy: str = "keep"
    ip_hash_key: str = ""

    @classmethod
    def from_settings(cls, settings: Settings) -> "Privacy":
        """Return the policy that the settings ask for.

        Raises:
            InvalidSettings: The key of `hash` is missing. Only what makes rows needs it.
        """
        if settings.ip_policy == "hash" and settings.ip_hash_key is None:
            raise InvalidSettings("environment: IP_POLICY=hash needs IP_HASH_KEY (16 characters or more)")
        return cls(settings.ip_policy, settings.ip_hash_key or "")

    def treat(self, address: str) -> str:
        """Show an address as the policy allows.

        An IPv6 address that has an IPv4 address in it is treated as that, so an address has one result, however it is
        written.

        Args:
            address: A valid IPv4 or IPv6 address.
        """
        if self.ip_policy == "keep":
            return address
        ip = ipaddress.ip_address(address)
        if isinstance(ip, ipaddress.IPv6Address):
            ip = _embedded(ip) or ip
        if self.ip_policy == "truncate":
            network = ipaddress.ip_network((ip, _PREFIX_LENGTH[ip.version]), strict=False)
            return str(network.network_address)
        return hmac.digest(self.ip_hash_key.encode(), ip.packed, hashlib.sha256).hex()


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address of the client that an IPv6 address contains, if any."""
    if ip.sixtofour:  # RFC 3056
        return ip.sixtofour
    if ip.teredo:  # RFC 4380: the addresses of the server and of the client
        return ip.teredo[1]
    if int(ip) >> 32 in _BEFORE_IPV4 and ip > _LOOPBACK:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return None
