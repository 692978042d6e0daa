"""A stand-in for the metadata server: where functions in Google Cloud have their credentials from."""

import contextlib
import itertools
import json
from collections.abc import Iterator

from fake_google.http_server import Connection, Request, response, serving

PROJECT = "project-of-the-metadata"
UNIVERSE = "universe.test"
"""Not Google's own, where google-auth would ask iamcredentials.googleapis.com for the account's regions."""
EMAIL = "ingest@project.iam.gserviceaccount.com"

_SERVICE_ACCOUNT = "/computeMetadata/v1/instance/service-accounts"
_UNIVERSE = "/computeMetadata/v1/universe/universe-domain"
_TEXTS = {
    "": "computeMetadata/",
    "/computeMetadata/v1/project/project-id": PROJECT,
    _UNIVERSE: UNIVERSE,
}


@contextlib.contextmanager
def running(*, account: bool = True) -> Iterator[dict[str, str]]:
    """Serve it while the context lasts; gives the environment of who shall find it.

    Tokens are `token-1`, `token-2`, and so on.

    Args:
        account: Whether the machine has a service account.
    """
    tokens = itertools.count(1)

    def answer(request: Request, connection: Connection) -> None:
        path = request.path.decode().rstrip("/")
        if not account and path.startswith((_SERVICE_ACCOUNT, _UNIVERSE)):
            content = response(b"", 404)
        elif path in {f"{_SERVICE_ACCOUNT}/default/token", f"{_SERVICE_ACCOUNT}/{EMAIL}/token"}:
            token = {"access_token": f"token-{next(tokens)}", "expires_in": 3600, "token_type": "Bearer"}
            content = _response(json.dumps(token), "application/json")
        elif path.startswith(_SERVICE_ACCOUNT):
            resource = {"email": EMAIL, "aliases": ["default"], "scopes": ["cloud-platform"]}
            content = _response(json.dumps(resource), "application/json")
        else:
            content = _response(_TEXTS[path]) if path in _TEXTS else response(b"", 404)
        connection.answer(content)

    with serving(answer) as url:
        address = url.removeprefix("http://")
        yield {"GCE_METADATA_HOST": address, "GCE_METADATA_IP": address, "GCE_METADATA_DETECT_RETRIES": "1"}


def _response(text: str, content_type: str = "text/plain") -> bytes:
    return response(text.encode(), content_type=content_type, headers={"metadata-flavor": "Google"})
