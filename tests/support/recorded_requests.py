"""The records that the requests of a deployment leave in its history: uploads, inserts, load jobs and pushes."""

import re
from collections.abc import Sequence

import msgspec

from fake_google import http_server, requests
from functions.archive import layout
from functions.archive.pending import LoadFile
from tests.history.lines import archived_payloads, named_objects
from tests.history.records import Answer, Fault, Insert, Loaded, Record, Upload

_UPLOAD = re.compile(r"^/upload/storage/v1/b/(?P<bucket>[^/]+)/o$")
_INSERT = re.compile(r"/tables/(?P<table>[^/]+)/insertAll$")
_JOB = re.compile(r"/jobs(/[^/]+)?$")
_PUSH = "/"


class _Resource(msgspec.Struct):
    name: str


class _Origin(msgspec.Struct):
    event_id: str = ""
    archive_uri: str = ""


class _Columns(_Origin):
    """The columns of a dead letter; those of a row are in `ingest`."""

    ingest: _Origin | None = None


class _InsertRow(msgspec.Struct):
    json: _Columns


class _Rows(msgspec.Struct):
    rows: list[_InsertRow]

    @property
    def origins(self) -> list[_Origin]:
        return [row.json.ingest or row.json for row in self.rows]


class _Reason(msgspec.Struct):
    reason: str


class _RowErrors(msgspec.Struct):
    index: int
    errors: list[_Reason]


class _Inserted(msgspec.Struct, rename="camel"):
    insert_errors: list[_RowErrors] = []


class _JobReference(msgspec.Struct, rename="camel"):
    job_id: str


class _Load(msgspec.Struct, rename="camel"):
    source_uris: list[str] = []


class _Configuration(msgspec.Struct):
    load: _Load | None = None


class _Status(msgspec.Struct, rename="camel"):
    state: str
    error_result: object = None


class _Job(msgspec.Struct, rename="camel"):
    job_reference: _JobReference
    configuration: _Configuration
    status: _Status


class _Attributes(msgspec.Struct):
    event_id: str


class _Message(msgspec.Struct):
    attributes: _Attributes


class _Push(msgspec.Struct):
    message: _Message


def fault(service: str, name: str, path: str, request: str, body: bytes) -> Fault:
    """Return the record of a fault that befalls a request.

    Args:
        service: The service.
        name: The fault.
        path: The path of the request.
        request: The request, for people.
        body: Its body.
    """
    return Fault(service, name, request, _events(path, body))


def answered(path: str, body: bytes, status: int, answer: bytes) -> Record | None:
    """Return the record of a request that has reached its server; None for requests that change no event.

    Args:
        path: The path of the request.
        body: Its body.
        status: Status code of the answer; 0 if there is none.
        answer: The body of the answer.
    """
    if path == _PUSH:
        return Answer(_event_of_push(body), status)
    if _UPLOAD.search(path):
        uri, events = _upload(path, body)
        return Upload(uri, events, status) if uri else None
    if match := _INSERT.search(path):
        return _insert(match["table"], body, status, answer)
    return _load(answer) if _JOB.search(path) and status == 200 else None


def _events(path: str, body: bytes) -> Sequence[str]:
    if path == _PUSH:
        return [_event_of_push(body)]
    if _UPLOAD.search(path):
        return list(_upload(path, body)[1])
    if _INSERT.search(path):
        return [origin.event_id for origin in msgspec.json.decode(body, type=_Rows).origins]
    return []


def _event_of_push(body: bytes) -> str:
    return msgspec.json.decode(body, type=_Push).message.attributes.event_id


def _upload(path: str, body: bytes) -> tuple[str, dict[str, str]]:
    """Return address and events of an archive object or a load file, as in `Upload`; nothing of another object."""
    match = _UPLOAD.search(path)
    assert match
    parts = requests.upload(http_server.Request(b"POST", b"", b"", {}, body))
    name = msgspec.json.decode(parts.resource, type=_Resource).name
    if layout.is_original(name):
        events = dict.fromkeys(archived_payloads(parts.data), "")
    elif LoadFile.from_name(name):
        events = named_objects(parts.data)
    else:
        return "", {}
    return layout.address(match["bucket"], name), events


def _insert(table: str, body: bytes, status: int, answer: bytes) -> Insert:
    origins = msgspec.json.decode(body, type=_Rows).origins
    if status != 200:
        reason = str(status or "no answer")
        return Insert(table, (), {origin.event_id: reason for origin in origins}, status)
    errors = msgspec.json.decode(answer, type=_Inserted).insert_errors
    reasons = {error.index: error.errors[0].reason for error in errors}
    inserted = [(each.event_id, each.archive_uri) for index, each in enumerate(origins) if index not in reasons]
    return Insert(table, inserted, {origins[index].event_id: reason for index, reason in reasons.items()}, status)


def _load(answer: bytes) -> Loaded | None:
    job = msgspec.json.decode(answer, type=_Job)
    is_loaded = job.status.state == "DONE" and not job.status.error_result
    return (
        Loaded(job.job_reference.job_id, job.configuration.load.source_uris)
        if is_loaded and job.configuration.load
        else None
    )
