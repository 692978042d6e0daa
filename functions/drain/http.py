"""The HTTP application of `drain`: brings what has arrived into the archive and the tables, and logs the result."""

import dataclasses
import logging
from typing import Self

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.drain.drain import Drain
from functions.settings import Settings

logger = logging.getLogger("functions.main")


@dataclasses.dataclass(frozen=True, slots=True)
class DrainApp:
    """Answers POST.

    Attributes:
        drain: Drains the subscription.
    """

    drain: Drain

    @classmethod
    def build(cls, settings: Settings) -> Self:
        """Build the application for a deployment."""
        return cls(Drain.build(settings))

    def __call__(self, request: Request) -> Response:
        """Drain the subscription: 200, or 500 if the next run has to repeat something."""
        if request.method != "POST":
            return JSONResponse({"error": "POST"}, 405, {"Allow": "POST"})
        report = self.drain()
        severity = logging.ERROR if report.errors else logging.INFO
        logger.log(severity, "drain", extra={"fields": report.fields})
        return JSONResponse(msgspec.to_builtins(report), 500 if report.errors else 200)
