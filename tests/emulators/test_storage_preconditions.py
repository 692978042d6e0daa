"""The local stack's Cloud Storage honours the generation that a request names."""

import httpx
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
    with pytest.raises(PreconditionFailed):
        first.upload_from_string("third", if_generation_match=first.generation)
    for request in (first.download_as_bytes, first.reload, first.patch, first.delete):
        with pytest.raises(NotFound):  # They ask for the first generation.
            request()
    for request in (bucket.blob("replaced").download_as_bytes, bucket.blob("replaced").delete):
        with pytest.raises(PreconditionFailed):
            request(if_generation_match=first.generation)
    assert second.download_as_bytes(if_generation_match=second.generation) == b"second"
    second.delete(if_generation_match=second.generation)
    assert not second.exists()


def test_an_absent_object_has_no_generation_to_replace_or_delete(bucket: Bucket) -> None:
    with pytest.raises(PreconditionFailed):
        bucket.blob("gone").upload_from_string("text", if_generation_match=1)
    with pytest.raises(NotFound):
        bucket.blob("gone").delete(if_generation_match=1)


def test_large_upload_replaces_nothing_that_came_meanwhile(bucket: Bucket) -> None:
    upload = bucket.blob("large").create_resumable_upload_session(if_generation_match=0)
    bucket.blob("large").upload_from_string("first")
    assert httpx.put(upload, content=b"second").status_code == httpx.codes.PRECONDITION_FAILED
    assert bucket.blob("large").download_as_bytes() == b"first"


def test_changed_metadata_is_another_metageneration(bucket: Bucket) -> None:
    changed, before = bucket.blob("changed"), bucket.blob("changed")
    changed.upload_from_string("text")
    before.reload()
    changed.metadata = {"key": "value"}
    changed.patch(if_metageneration_match=changed.metageneration)
    for request in (before.patch, before.delete):
        with pytest.raises(PreconditionFailed):
            request(if_metageneration_match=before.metageneration)
    with pytest.raises(PreconditionFailed):
        before.upload_from_string("other", if_metageneration_match=before.metageneration)
    changed.delete(if_metageneration_match=changed.metageneration)
