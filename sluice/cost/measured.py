"""Measurements of the cost of an event: the inputs of the model, written by `make bench`."""

import pathlib

import msgspec

FILE = pathlib.Path(__file__).with_name("measured.json")


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """Mean bytes of an event of the benchmark's mix (orders, inventory and user activity 3:2:5) at its places.

    Attributes:
        row: Logical bytes of its row, by the columns' types.
        lineage: Logical bytes of what Sluice adds to the row: the struct `ingest`, and the columns from enrichment.
        reconciled: Logical bytes of the columns that the reconciliation reads.
        merged: Logical bytes of the columns of a historical row that `keep_history` reads.
        json: Bytes of the row as the JSON that insertAll takes.
    """

    row: float
    lineage: float
    reconciled: float
    merged: float
    json: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The measured cost of an event, in bytes and seconds.

    Attributes:
        run: Time of the benchmark's run, ISO 8601.
        revision: Commit of the code that was measured.
        message_bytes: Mean bytes of a message's payload.
        event_cpu: Seconds of CPU for an event.
        flush_cpu: Seconds of CPU for a flush, besides.
        byte_cpu: Seconds of CPU for each byte of a larger message.
        core_cpu: Seconds of CPU for an event without any network.
        drain_cpu: Seconds of CPU for a message in batch mode, from the pull to the load file.
        plain_cpu: Seconds of CPU of the plain function for an event.
        upload: Seconds until Cloud Storage answers, in the benchmark.
        insert: Seconds until BigQuery answers, in the benchmark.
        billed_row_bytes: Bytes that insertAll bills for a row, each with its minimum.
        object_bytes: Bytes of an object of the archive, besides its events.
        archived_bytes: Bytes of an event in an object of the archive, compressed.
        plain_object_bytes: Bytes of an object of the plain function, which has one event.
        sizes: Sizes, which do not depend on the machine.
    """

    run: str
    revision: str
    message_bytes: float
    event_cpu: float
    flush_cpu: float
    byte_cpu: float
    core_cpu: float
    drain_cpu: float
    plain_cpu: float
    upload: float
    insert: float
    billed_row_bytes: float
    object_bytes: float
    archived_bytes: float
    plain_object_bytes: float
    sizes: Sizes

    def write(self, file: pathlib.Path = FILE) -> None:
        """Keep the inputs of the model."""
        file.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")


def read(file: pathlib.Path = FILE) -> Measured:
    """Read the inputs of the model."""
    return msgspec.json.decode(file.read_bytes(), type=Measured)
