"""A check of a deployment and its result."""

import dataclasses
import enum
import time
from collections.abc import Callable

from sluice.verify.project import Failed, NotThere, Project, Unknown

_LOOK_EVERY = 15.0

type Look = Callable[[Project], str]
"""Inspects a deployment and returns its observation; raises `Failed`, `NotThere` or `Unknown`."""


class Outcome(enum.StrEnum):
    """The result of a check."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"
    """The check could not be made: a permission is missing, or an API is not enabled or does not answer as expected."""
    SKIPPED = "skipped"
    """The deployment does not have what the check looks at."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check.

    Attributes:
        check: The check's title.
        outcome: Whether it passed.
        seen: Observation, as a short text.
    """

    check: str
    outcome: Outcome
    seen: str


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """A check.

    Attributes:
        title: Statement that is true if the check passes.
        why: Reason why the check needs a real project, for docs/verify.md.
        look: Inspects the deployment and returns its observation; raises `Failed`, `NotThere` or `Unknown`.
        patience: Maximum seconds from the start of all checks until it passes: some services of Google report with
            a delay.
    """

    title: str
    why: str
    look: Look
    patience: float = 0

    def run(self, project: Project, started: float, sleep: Callable[[float], object] = time.sleep) -> Finding:
        """Repeat the check until it passes or its patience ends.

        Args:
            project: The deployment.
            started: Start time of the first check, by `time.monotonic`.
            sleep: Waits for some seconds.
        """
        ends = started + self.patience
        while True:
            try:
                return Finding(self.title, Outcome.OK, self.look(project))
            except NotThere as missing:
                return Finding(self.title, Outcome.SKIPPED, str(missing))
            except Unknown as error:
                return Finding(self.title, Outcome.UNKNOWN, str(error))
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                # An API may answer something unexpected, which must not end the other checks.
                reason = f"an API's answer is not as expected: {type(error).__name__}: {error}"
                return Finding(self.title, Outcome.UNKNOWN, reason)
            except Failed as failure:
                if time.monotonic() >= ends:
                    return Finding(self.title, Outcome.FAIL, str(failure))
            sleep(_LOOK_EVERY)
