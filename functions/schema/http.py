"""The HTTP application of `bootstrap`: makes the warehouse what `sql/` defines, or says what that would change."""

import dataclasses
import logging
from typing import Self

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.clients import bigquery_client
from functions.schema.bootstrap import Bootstrap, SchemaChange
from functions.settings import Settings

logger = logging.getLogger("functions.main")


@dataclasses.dataclass(frozen=True, slots=True)
class BootstrapApp:
    """Answers POST and GET.

    Attributes:
        bootstrap: Changes the warehouse.
    """

    bootstrap: Bootstrap

    @classmethod
    def build(cls, settings: Settings) -> Self:
        """Build the application for a deployment."""
        return cls(Bootstrap(bigquery_client(settings), settings))

    def __call__(self, request: Request) -> Response:
        """POST makes the changes; GET plans them. 409: a change is rejected; 500: a step went wrong."""
        match request.method:
            case "POST":
                steps = self.bootstrap.run()
            case "GET":
                steps = self.bootstrap.plan()
            case _:
                return JSONResponse({"error": "GET or POST"}, 405, {"Allow": "GET, POST"})
        changes = {step.change for step in steps}
        for step in steps:
            severity = logging.ERROR if step.change in {SchemaChange.ERROR, SchemaChange.REJECTED} else logging.INFO
            logger.log(severity, "bootstrap", extra={"fields": dataclasses.asdict(step)})
        status = 500 if SchemaChange.ERROR in changes else 409 if SchemaChange.REJECTED in changes else 200
        return JSONResponse({"objects": [dataclasses.asdict(step) for step in steps]}, status)
