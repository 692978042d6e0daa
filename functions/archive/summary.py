"""The summary of an archive object's events, which is the object's metadata."""

import collections
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from functions.archive import delivery
from functions.archive.envelope import Envelope
from functions.names import UNKNOWN

DIGEST = "deliveries-digest"
"""Key of the digest in an object's metadata. Keys with a hyphen are no counts: no event type has one in its name."""


class Summary(NamedTuple):
    """The counts and the digest of an object's events, as its metadata has them.

    Attributes:
        counts: Number of events by type; those of no known type count as `unknown`.
        digest: Sum of the digests of their deliveries.
    """

    counts: Mapping[str, int]
    digest: int

    @classmethod
    def of(cls, envelopes: Iterable[Envelope], event_types: Collection[str]) -> "Summary":
        """Sum up the envelopes of an object.

        Args:
            envelopes: All envelopes of the object.
            event_types: The types that are counted by name.
        """
        counts: collections.Counter[str] = collections.Counter()
        digest = 0
        for envelope in envelopes:
            name = envelope.event_type
            counts[name if name is not None and name in event_types else UNKNOWN] += 1
            digest += delivery.digest(envelope.event_id, envelope.message_id)
        return cls(counts, digest)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str] | None) -> "Summary | None":
        """Read an object's metadata; None where older code or another program has written it."""
        if not metadata or DIGEST not in metadata:
            return None
        try:
            counts = {name: int(text) for name, text in metadata.items() if "-" not in name}
            return cls(counts, int(metadata[DIGEST]))
        except ValueError:
            return None

    @property
    def events(self) -> int:
        """Number of events."""
        return sum(self.counts.values())

    def __add__(self, other: "Summary") -> "Summary":  # type: ignore[override]  # the sum, not the two tuples
        """Return the summary of the events of both."""
        counts = collections.Counter(self.counts)
        counts.update(other.counts)
        return Summary(counts, self.digest + other.digest)

    def metadata(self) -> dict[str, str]:
        """Return it as an object's metadata, which has room for 8 KiB."""
        return {name: str(count) for name, count in self.counts.items()} | {DIGEST: str(self.digest)}
