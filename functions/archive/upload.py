"""Uploads objects that are written once, as `ingest` and `drain` write them."""

import base64
import http
import urllib.parse
from collections.abc import Mapping

import google_crc32c
import msgspec

from functions.ingest.http_client import Api, ApiError


class _ObjectResource(msgspec.Struct, rename="camel"):
    """https://cloud.google.com/storage/docs/json_api/v1/objects#resource."""

    name: str
    metadata: Mapping[str, str]
    crc32c: str
    content_type: str = "application/gzip"


class _Written(msgspec.Struct):
    """The object, as Cloud Storage answers."""

    name: str


_encode_object = msgspec.json.Encoder().encode


_decode_written = msgspec.json.Decoder(_Written).decode


def upload(api: Api, bucket: str, name: str, data: bytes, metadata: Mapping[str, str], timeout: float) -> None:  # noqa: PLR0913, PLR0917 - an object and its place
    """Write a new object of gzip; blocks. It may be repeated.

    Args:
        api: Cloud Storage.
        bucket: Name of the bucket.
        name: Name of the object, which no other writer uses.
        data: Its content.
        metadata: Its metadata.
        timeout: Maximum seconds, retries included.

    Raises:
        ApiError: Cloud Storage rejected the request.
        urllib3.exceptions.HTTPError: Cloud Storage did not answer in time, or the connection failed.
        msgspec.DecodeError: The answer is no object, so it is not from Cloud Storage.
    """
    checksum = base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
    content_type, body = _related(_encode_object(_ObjectResource(name, metadata, checksum)), data, api.system.token())
    escaped = urllib.parse.quote(bucket, safe="")
    path = f"/upload/storage/v1/b/{escaped}/o?uploadType=multipart&ifGenerationMatch=0&prettyPrint=false"
    try:
        _decode_written(api.post(path, content_type, body, timeout))
    except ApiError as error:
        # No other writer uses this name: an earlier attempt has succeeded, and its answer was lost.
        if error.status != http.HTTPStatus.PRECONDITION_FAILED:
            raise


def _related(resource: bytes, data: bytes, boundary: str) -> tuple[str, bytes]:
    """Return content type and body of https://cloud.google.com/storage/docs/uploading-objects#rest-upload-objects."""
    head = f"--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n".encode()
    middle = f"\r\n--{boundary}\r\ncontent-type: application/gzip\r\n\r\n".encode()
    body = b"".join((head, resource, middle, data, f"\r\n--{boundary}--\r\n".encode()))
    return f'multipart/related; boundary="{boundary}"', body
