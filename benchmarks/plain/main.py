"""The plain function: what every tutorial shows, written as well as that design allows.

Synchronous; jsonschema with formats; one upload and one `insert_rows_json` for each message; what is bad goes to a
table of dead letters. Validators and clients are made once, with a connection for each thread. It leaves out what
Sluice does beyond that: exact decimals, user agents, lineage, bounds of time and size.
"""

import base64
import datetime
import json
import os
import pathlib
from typing import Any

import flask
import functions_framework
import jsonschema
import requests.adapters
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.storage import Client as StorageClient

THREADS = int(os.environ["THREADS"])
BUCKET = os.environ["ARCHIVE_BUCKET"]
DATASET = os.environ["DATASET"]
SCHEMAS = pathlib.Path(__file__).parent / "jsonschemas"
TABLES = {"order": "orders", "inventory": "inventory", "user_activity": "user_activity"}
TIME_FIELDS = {"order": "order_date", "inventory": "timestamp", "user_activity": "timestamp"}

validators = {
    event_type: jsonschema.Draft202012Validator(
        json.loads((SCHEMAS / f"{event_type}.v1.json").read_text()),
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
    )
    for event_type in TABLES
}

credentials = AnonymousCredentials() if "BIGQUERY_EMULATOR_HOST" in os.environ else None  # type: ignore[no-untyped-call]
warehouse = bigquery.Client(credentials=credentials)
archive = StorageClient().bucket(BUCKET)
for client in (warehouse, archive.client):
    adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=THREADS)
    client._http.mount("http://", adapter)  # the clients have no other way to a larger pool
    client._http.mount("https://", adapter)


@functions_framework.http
def ingest(request: flask.Request) -> tuple[str, int]:
    """Take one Pub/Sub message: 204 once it is in both places."""
    message = request.get_json()["message"]
    data = base64.b64decode(message.get("data", ""))
    message_id = message["messageId"]
    attributes = message.get("attributes", {})
    event_id = attributes.get("event_id", message_id)
    now = datetime.datetime.now(datetime.UTC)

    name = f"raw/dt={now:%Y-%m-%d/hr=%H}/{message_id}.json"
    archive.blob(name).upload_from_string(data, content_type="application/json")

    table, row = _row(data, now)
    if table == "dead_letters":
        row |= {"event_id": event_id, "message_id": message_id, "attributes": json.dumps(attributes)}
    errors = warehouse.insert_rows_json(f"{warehouse.project}.{DATASET}.{table}", [row], row_ids=[event_id])
    return ("", 500) if errors else ("", 204)


def _row(data: bytes, now: datetime.datetime) -> tuple[str, dict[str, Any]]:
    """Return the table and the row of a payload."""
    try:
        event = json.loads(data)
        event_type = event["event_type"]
        validators[event_type].validate(event)
    except (ValueError, KeyError, TypeError, jsonschema.ValidationError) as error:
        return "dead_letters", {
            "failed_at": now.isoformat(),
            "error": getattr(error, "message", str(error)),
            "payload": base64.b64encode(data).decode(),
        }
    event_date = datetime.datetime.fromisoformat(event[TIME_FIELDS[event_type]]).astimezone(datetime.UTC).date()
    return TABLES[event_type], {
        **event,
        "processed_timestamp": now.isoformat(),
        "event_date": event_date.isoformat(),
    }
