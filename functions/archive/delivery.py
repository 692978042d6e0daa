"""The digest of a delivery, which is an event with the message that brought it; in Python and in GoogleSQL.

The sum of the digests of several deliveries says which they are, in any order. An object of the archive has the sum of
its lines, a query returns that of the records that name the object: equal sums are the same deliveries.
"""

import hashlib

_HEX_DIGITS = 10
"""Size of a digest: 40 bits. Eight million digests add up to less than an INT64; sums of different deliveries are equal
once in 10^12."""


def digest(event_id: str, message_id: str) -> int:
    """Return the digest of a delivery."""
    identity = f"{event_id}\n{message_id}".encode()
    return int(hashlib.md5(identity, usedforsecurity=False).hexdigest()[:_HEX_DIGITS], 16)


def digest_sql(event_id: str, message_id: str) -> str:
    """Return the same as an expression of GoogleSQL.

    Args:
        event_id: Expression of the event's id.
        message_id: Expression of the message's id.
    """
    identity = f"CONCAT({event_id}, '\\n', {message_id})"
    return f"CAST(CONCAT('0x', SUBSTR(TO_HEX(MD5({identity})), 1, {_HEX_DIGITS})) AS INT64)"
