"""The requests of Google's clients: rows of insertAll, and objects of an upload in one request."""

import gzip
from typing import NamedTuple

from fake_google.http_server import Request


def table(request: Request) -> str:
    """Return the table of a call of insertAll.

    https://cloud.google.com/bigquery/docs/reference/rest/v2/tabledata/insertAll
    """
    return request.path.rsplit(b"/", 2)[1].decode()


def content(request: Request) -> bytes:
    """Return the body, decompressed."""
    return gzip.decompress(request.body) if request.headers.get(b"content-encoding") == b"gzip" else request.body


class Upload(NamedTuple):
    """An upload in one request.

    Attributes:
        resource: Resource of the object or of the job, as JSON.
        data: Bytes of the object.
    """

    resource: bytes
    data: bytes


def upload(request: Request) -> Upload:
    """Return the parts of an upload: a boundary, the resource, a boundary, the data.

    https://cloud.google.com/storage/docs/uploading-objects#rest-upload-objects
    """
    boundary = request.body[: request.body.index(b"\r\n")]
    _, resource, data, _ = request.body.split(boundary, 3)
    return Upload(resource.partition(b"\r\n\r\n")[2], data.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n"))
