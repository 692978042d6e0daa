"""Each function needs the settings and secrets that it reads while it starts and answers a request."""

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from functions.archive import layout
from functions.archive.envelope import Envelope
from functions.clients import storage_client
from functions.core.message import Message
from sluice.local.functions import SECRETS, served_environment, unpacked
from sluice.local.stack import Stack
from tests.support.deployed_stack import Deploy
from tests.support.push_requests import event, wrapped

KEY = "a key of the tests, long enough"

OF_ALL = {"google_cloud_project", "environment", "log_level", "code_version"}

READS = {
    "ingest": OF_ALL
    | {"archive_bucket", "dataset", "retention_days", "ip_policy", "ip_hash_key"}
    | {
        "batch_bytes",
        "batch_rows",
        "flush_interval",
        "flush_timeout",
        "linger_ms",
        "max_in_flight",
        "max_in_flight_bytes",
    },
    "drain": OF_ALL
    | {"archive_bucket", "dataset", "location", "retention_days", "ip_policy", "ip_hash_key"}
    | {"flush_timeout", "subscription"}
    | {"historical_dataset", "policy_tag_personal", "policy_tag_raw"},  # The definitions of its tables name them.
    "bootstrap": OF_ALL
    | {"archive_bucket", "dataset", "historical_dataset", "location", "retention_days"}
    | {"policy_tag_personal", "policy_tag_raw"},
    "reconcile": OF_ALL | {"archive_bucket", "dataset", "historical_dataset", "location", "retention_days"},
    "compact": OF_ALL | {"archive_bucket"},
}

RECORD = """
import json, sys
from functions.settings import Settings

reads, from_environment = set(), Settings.from_environment

class Recorded:
    def __init__(self, settings):
        self.settings = settings

    def __getattr__(self, name):
        reads.add(name)
        return getattr(self.settings, name)

Settings.from_environment = lambda: Recorded(from_environment())

from functions_framework.aio import create_asgi_app
from starlette.testclient import TestClient

with TestClient(create_asgi_app()) as client:
    answer = client.post("/", json=json.loads(sys.argv[1]))
assert answer.is_success, answer.text
print(json.dumps(sorted(reads)), file=sys.__stderr__)
"""


@pytest.fixture(scope="module")
def hashed(deploy: Deploy) -> Iterator[Stack]:
    """A deployment that hashes addresses; so its bootstrap has run, and does without the key."""
    with deploy("composed", IP_POLICY="hash", IP_HASH_KEY=KEY) as stack:
        _lose_an_event(stack)
        yield stack


def _lose_an_event(stack: Stack) -> None:
    """Archive an event without a row: what is missing is looked for in the historical dataset, too."""
    arrived = datetime.now(UTC) - timedelta(hours=2)
    message = Message(json.dumps(event("order")).encode(), {"event_id": "lost"}, "lost", arrived)
    data = gzip.compress(msgspec.json.encode(Envelope.from_message(message, "order")))
    bucket = storage_client(stack.settings).bucket(stack.settings.archive_bucket)
    bucket.blob(f"{layout.first_name_at(arrived)}-instance-00000001.ndjson.gz").upload_from_string(data)


@pytest.mark.parametrize("target", READS)
def test_a_function_reads_these_settings_and_no_others(
    hashed: Stack, target: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    environment = served_environment(target, 0, hashed.environment)
    body = wrapped(event("order"), "composed")
    done = subprocess.run(
        [sys.executable, "-c", RECORD, json.dumps(body)],
        cwd=unpacked(tmp_path_factory.mktemp(target) / "code"),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stderr.splitlines()[-1])) == READS[target]
    assert {name.lower() for name in SECRETS[target]} == READS[target] & {"ip_hash_key"}
    assert ("IP_HASH_KEY" in environment) == (target in {"ingest", "drain"})
