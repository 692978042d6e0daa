"""The history of a scenario: what happened when, and where."""

from collections.abc import Callable


class History:
    """Keeps what happened.

    Args:
        clock: Returns the seconds since the begin.
        is_kept: Whether to keep anything: only a replay needs it.

    Attributes:
        lines: What happened.
        violations: The promises that were broken.
    """

    def __init__(self, clock: Callable[[], float], *, is_kept: bool = False) -> None:
        self._clock = clock
        self._is_kept = is_kept
        self.lines: list[str] = []
        self.violations: list[str] = []

    def add(self, where: str, what: str) -> None:
        """Keep what happened on a machine or in a service."""
        if self._is_kept:
            self.lines.append(f"{self._clock():10.3f}  {where:12}  {what}")

    def violated(self, promise: str) -> None:
        """Keep that a promise is broken."""
        self.violations.append(promise)
        self.add("!", promise)
