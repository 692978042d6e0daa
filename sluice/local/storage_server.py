"""The Cloud Storage emulator (`gcp-storage-emulator`) with preconditions, which it ignores by itself.

Run as `python -m sluice.local.storage_server`, with the emulator's own arguments.
"""

import http
from collections.abc import Callable
from typing import Any

from gcp_storage_emulator import __main__ as emulator
from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound

_UPLOAD = "/upload/"
_NOT_CREATED = "0"

type _Handler = Callable[..., Any]


def _object_name(request: Any) -> str | None:  # noqa: ANN401
    """Return the name of the object that a request is about; None if it is about a bucket."""
    if "object_id" in request.params:
        return str(request.params["object_id"])
    if "name" in request.query:
        return str(request.query["name"][0])
    if _UPLOAD in request.path and isinstance(request.data, dict):
        return str(request.data.get("meta", request.data).get("name"))
    return None


def _checked(handler: _Handler) -> _Handler:
    """Return a handler that answers 412 where the object has not the generation that the request names.

    0 stands for an object that does not exist: https://cloud.google.com/storage/docs/request-preconditions.
    """

    def handle(request: Any, response: Any, storage: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        expected = request.query.get("ifGenerationMatch")
        name = _object_name(request) if expected else None
        # The parts of a resumable upload after the first one have the condition in their address, too.
        if expected and name and "upload_id" not in request.query:
            try:
                generation = str(storage.get_file_obj(request.params["bucket_name"], name)["generation"])
            except NotFound:
                generation = _NOT_CREATED
            if generation == _NOT_CREATED and expected[0] != _NOT_CREATED and request.method != server.POST:
                handler(request, response, storage, *args, **kwargs)  # 404
                return
            if generation != expected[0]:
                response.status = http.HTTPStatus.PRECONDITION_FAILED
                reason = "conditionNotMet"
                message = f"At least one of the pre-conditions you specified did not hold: {name} is {generation}"
                errors = [{"domain": "global", "reason": reason, "message": message}]
                response.json({"error": {"code": 412, "message": message, "errors": errors}})
                return
        handler(request, response, storage, *args, **kwargs)

    return handle


def install() -> None:
    """Let the emulator in this process honour `ifGenerationMatch`."""
    server.HANDLERS = tuple(
        (pattern, {method: _checked(handler) for method, handler in handlers.items()})
        for pattern, handlers in server.HANDLERS
    )


if __name__ == "__main__":
    install()
    emulator.main()
