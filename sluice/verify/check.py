"""A check of a deployment, and what comes of it."""

import dataclasses
import enum
import time
from collections.abc import Callable

from sluice.verify.project import Failed, NotThere, Project, Unknown

_LOOK_EVERY = 15.0

type Look = Callable[[Project], str]
"""Looks at a deployment and returns what it saw; raises `Failed`, `NotThere` or `Unknown`."""


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
    """The result of a check and what it saw.

    Attributes:
        check: The check's title.
        outcome: Whether it passed.
        seen: What was seen, as a sentence or less.
    """

    check: str
    outcome: Outcome
    seen: str


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """A check.

    Attributes:
        title: The statement that is true when it passes.
        why: Why only a real project can show it, for docs/verify.md.
        look: Looks, and returns what it saw; raises `Failed`, `NotThere` or `Unknown`.
        patience: Seconds after the start of all checks by which it has to pass: some of Google's services show late
            what has happened.
    """

    title: str
    why: str
    look: Look
    patience: float = 0

    def run(self, project: Project, started: float, sleep: Callable[[float], object] = time.sleep) -> Finding:
        """Look until the check passes, or its patience ends.

        Args:
            project: The deployment.
            started: The time at which the first of all checks was started, by `time.monotonic`.
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
