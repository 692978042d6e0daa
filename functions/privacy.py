"""How rows show what belongs to a person. The archive and dead letters keep the original bytes."""

import dataclasses
import hashlib
import hmac
import ipaddress

from functions.settings import Settings

_PREFIX_LENGTH = {4: 24, 6: 48}


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
        """The policy that the settings ask for."""
        return cls(settings.ip_policy, settings.ip_hash_key or "")

    def treat(self, address: str) -> str:
        """Show an IPv4 or IPv6 address as the policy allows; one address, one result, however it is written."""
        if self.ip_policy == "keep":
            return address
        ip = ipaddress.ip_address(address)
        if ip.version == 6 and ip.ipv4_mapped:
            ip = ip.ipv4_mapped
        if self.ip_policy == "truncate":
            network = ipaddress.ip_network((ip, _PREFIX_LENGTH[ip.version]), strict=False)
            return str(network.network_address)
        return hmac.digest(self.ip_hash_key.encode(), ip.packed, hashlib.sha256).hex()
