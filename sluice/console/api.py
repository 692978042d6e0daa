"""The interface for tests of producers: publish an event, and begin again without any."""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from functions.core import dead_letters
from functions.sql import render
from functions.tables import Tables
from sluice.console.breaking import count_anew
from sluice.console.page import NoParameters, WrongInput
from sluice.console.sources import Sources
from sluice.local.faults import read_faults
from sluice.publish import FAILURES, Publication, publish
from sluice.queries import short_retry


class NewEvent(msgspec.Struct, frozen=True):
    """An event to publish.

    Attributes:
        event: The event: any JSON.
        attributes: Attributes of its message.
    """

    event: msgspec.Raw
    attributes: Mapping[Annotated[str, Meta(min_length=1, max_length=256)], str] = {}


class Published(msgspec.Struct, frozen=True):
    """Pub/Sub has accepted an event.

    Attributes:
        topic: The topic.
    """

    topic: str


def publish_event(sources: Sources, new: NewEvent) -> Published:
    """Publish an event to the topic of the local stack.

    Raises:
        WrongInput: Pub/Sub rejects it.
    """
    assert sources.local  # noqa: S101 - actions are of the local stack only
    try:
        publish([Publication(bytes(new.event), new.attributes)], sources.local.topic)
    except FAILURES as error:
        raise WrongInput(str(error)) from error
    return Published(sources.local.topic)


class Deleted(msgspec.Struct, frozen=True):
    """All events of the local stack are deleted.

    Attributes:
        rows: Number of rows and dead letters.
        objects: Number of archive objects.
    """

    rows: int
    objects: int


def delete_events(sources: Sources, _: NoParameters) -> Deleted:
    """Delete all rows, dead letters, replays and archive objects of the local stack.

    A message that is still in Pub/Sub is processed afterwards.

    Raises:
        google.api_core.exceptions.GoogleAPIError: A service rejected a request or did not answer.
    """
    blobs = list(sources.storage.list_blobs(sources.settings.archive_bucket))
    tables = Tables(sources.settings)
    rows = 0
    for table in (*tables.events(), tables.live(dead_letters.TABLE), tables.replays):
        job = sources.bigquery.query(render("DELETE FROM `{{ table }}` WHERE TRUE", table=table), retry=short_retry())
        job.result(retry=short_retry())
        rows += job.num_dml_affected_rows or 0
    for blob in blobs:
        blob.delete()
    sources.forget()
    if read_faults(sources.stack.data).watched_since:  # What is deleted is not missing.
        count_anew(sources)
    return Deleted(rows, len(blobs))
