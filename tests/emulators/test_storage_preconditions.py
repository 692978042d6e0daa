"""The local stack's Cloud Storage honours the generation that a request names."""

import pytest
from google.api_core.exceptions import NotFound, PreconditionFailed
from google.cloud.storage import Bucket

from functions.clients import storage_client
from sluice.local.stack import Stack


@pytest.fixture(scope="module")
def bucket(stack: Stack) -> Bucket:
    return storage_client(stack.settings).bucket(stack.settings.archive_bucket)


def test_an_object_is_created_once(bucket: Bucket) -> None:
    bucket.blob("created").upload_from_string("first", if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        bucket.blob("created").upload_from_string("second", if_generation_match=0)
    assert bucket.blob("created").download_as_bytes() == b"first"


def test_only_the_named_generation_is_replaced_read_and_deleted(bucket: Bucket) -> None:
    first = bucket.blob("replaced")
    first.upload_from_string("first")
    second = bucket.blob("replaced")
    second.upload_from_string("second", if_generation_match=first.generation)
    for request in (first.upload_from_string, first.download_as_bytes, first.delete):
        arguments = ["third"] if request == first.upload_from_string else []
        with pytest.raises(PreconditionFailed):
            request(*arguments, if_generation_match=first.generation)
    assert second.download_as_bytes(if_generation_match=second.generation) == b"second"
    second.delete(if_generation_match=second.generation)
    assert not second.exists()


def test_an_absent_object_has_no_generation_to_replace_or_delete(bucket: Bucket) -> None:
    with pytest.raises(PreconditionFailed):
        bucket.blob("gone").upload_from_string("text", if_generation_match=1)
    with pytest.raises(NotFound):
        bucket.blob("gone").delete(if_generation_match=1)
