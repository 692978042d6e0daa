"""The empty function: it reads the body and says yes. What the framework leaves to any function at most."""

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response


@functions_framework.aio.http
async def ingest(request: Request) -> Response:
    """Read, and answer 204."""
    await request.body()
    return Response(status_code=204)
