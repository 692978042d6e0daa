"""Secrets, which workers fetch themselves. The graph of a job has none, since readers of Dataflow may see it."""

import os

from google.auth.credentials import AnonymousCredentials
from google.cloud.secretmanager_v1 import SecretManagerServiceClient
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import SecretManagerServiceRestTransport


def fetch(name: str) -> str:
    """Return a secret's text, from the stand-in at SECRET_MANAGER_EMULATOR_HOST (`http://HOST:PORT`), if that is set.

    Args:
        name: `projects/PROJECT/secrets/NAME/versions/VERSION`.

    Raises:
        google.api_core.exceptions.GoogleAPIError: Secret Manager rejected a request or did not answer.
        UnicodeDecodeError: The secret is not UTF-8.
    """
    text: str = _client().access_secret_version(name=name).payload.data.decode()
    return text


def _client() -> SecretManagerServiceClient:
    if emulator := os.environ.get("SECRET_MANAGER_EMULATOR_HOST"):
        scheme, _, host = emulator.partition("://")
        anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call]
        return SecretManagerServiceClient(
            transport=SecretManagerServiceRestTransport(host=host, url_scheme=scheme, credentials=anonymous)
        )
    return SecretManagerServiceClient()
