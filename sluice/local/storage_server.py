"""The Cloud Storage emulator (`gcp-storage-emulator`) with generations and preconditions, which it ignores.

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
_GENERATION = "generation"
_CONDITIONS = {"ifGenerationMatch": _GENERATION, "ifMetagenerationMatch": "metageneration"}
"""Field of an object that each condition is about."""

type _Handler = Callable[..., Any]


def _object_name(request: Any, storage: Any) -> str | None:  # noqa: ANN401
    """Return the name of the object that a request is about; None if it is about a bucket."""
    if "upload_id" in request.query:  # A part of a resumable upload: its address has the conditions of the first one.
        try:
            return str(storage.get_resumable_file_obj(request.query["upload_id"][0])["name"])
        except NotFound:
            return None
    if "object_id" in request.params:
        return str(request.params["object_id"])
    if "name" in request.query:
        return str(request.query["name"][0])
    if _UPLOAD in request.path and isinstance(request.data, dict):
        return str(request.data.get("meta", request.data).get("name"))
    return None


def _checked(handler: _Handler) -> _Handler:
    """Return a handler that answers 412 where the object is not what the request's conditions say.

    Generation 0 stands for an object that does not exist: https://cloud.google.com/storage/docs/request-preconditions.
    A request for a generation that has been replaced is answered 404.
    """

    def handle(request: Any, response: Any, storage: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        given = {name: request.query[name][0] for name in (*_CONDITIONS, _GENERATION) if name in request.query}
        name = _object_name(request, storage) if given else None
        if given and name:
            try:
                stored = storage.get_file_obj(request.params["bucket_name"], name)
            except NotFound:
                stored = {}
            is_read = _UPLOAD not in request.path and given.get("ifGenerationMatch") != _NOT_CREATED
            if is_read and (not stored or given.get(_GENERATION, stored[_GENERATION]) != stored[_GENERATION]):
                response.status = http.HTTPStatus.NOT_FOUND
                return
            for condition, field in _CONDITIONS.items():
                actual = str(stored.get(field, _NOT_CREATED))
                if condition in given and given[condition] != actual:
                    response.status = http.HTTPStatus.PRECONDITION_FAILED
                    message = f"At least one of the pre-conditions you specified did not hold: {name} is {actual}"
                    errors = [{"domain": "global", "reason": "conditionNotMet", "message": message}]
                    response.json({"error": {"code": 412, "message": message, "errors": errors}})
                    return
        handler(request, response, storage, *args, **kwargs)

    return handle


def install() -> None:
    """Let the emulator in this process honour generations and preconditions."""
    server.HANDLERS = tuple(
        (pattern, {method: _checked(handler) for method, handler in handlers.items()})
        for pattern, handlers in server.HANDLERS
    )


if __name__ == "__main__":
    install()
    emulator.main()
