"""Variables and lines of a shell with which other clients than Sluice's find the local stack.

docs/your-own-client.md shows each client; its snippets are tests.
"""

import enum
import shlex
from collections.abc import Mapping


class ClientKind(enum.StrEnum):
    """Kinds of clients, which find emulators in different ways."""

    PYTHON = "python"
    BQ = "bq"
    GCLOUD = "gcloud"


def client_variables(kind: ClientKind, stack: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which a kind of client finds the stack.

    Args:
        kind: The kind of client.
        stack: The stack's own variables. They are part of the result, since commands name dataset, bucket and topic.
    """
    if kind is not ClientKind.GCLOUD:
        return dict(stack)
    return {
        **stack,
        "CLOUDSDK_CORE_PROJECT": stack["GOOGLE_CLOUD_PROJECT"],
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB": f"http://{stack['PUBSUB_EMULATOR_HOST']}/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{stack['STORAGE_EMULATOR_HOST']}/storage/v1/",
    }


def shell_lines(kind: ClientKind, stack: Mapping[str, str]) -> list[str]:
    """Return lines for `eval` of a POSIX shell, after which a kind of client finds the stack.

    Args:
        kind: The kind of client. `bq` reads neither an emulator's variable nor an endpoint's, and ends without an
            account or a token. So its lines make it a function of the shell, which adds the flags.
        stack: The stack's own variables.
    """
    lines = [f"export {name}={shlex.quote(value)}" for name, value in client_variables(kind, stack).items()]
    if kind is ClientKind.BQ:
        where = [f"--api={stack['BIGQUERY_EMULATOR_HOST']}", f"--project_id={stack['GOOGLE_CLOUD_PROJECT']}"]
        words = shlex.join([*where, "--oauth_access_token=local"])
        lines.append(f'bq() {{ command bq {words} "$@"; }}')
    return lines
