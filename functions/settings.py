"""The settings of all functions, read once from the environment."""

import os
from collections.abc import Mapping
from typing import Annotated, Literal, Self

import msgspec
from msgspec import Meta

_POLICY_TAG = r"^projects/[^/]+/locations/[^/]+/taxonomies/[^/]+/policyTags/[^/]+$"


class InvalidSettings(ValueError):
    """A setting is missing or wrong; the message names its environment variable."""


NO_PROJECT = "environment: GOOGLE_CLOUD_PROJECT is missing, and the credentials name no project"
"""Message of `InvalidSettings` where a project is needed."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, rename=str.upper):
    """Everything that differs between deployments; each field is the environment variable in upper case.

    Durations are seconds unless the name says otherwise; sizes are bytes.
    """

    archive_bucket: Annotated[
        str, Meta(min_length=3, description="Cloud Storage bucket of the raw events (without `gs://`).")
    ]
    google_cloud_project: (
        Annotated[str, Meta(min_length=1, description="Project of the dataset; unset: the credentials' own.")] | None
    ) = None
    dataset: Annotated[str, Meta(pattern=r"^\w{1,1024}$", description="BigQuery dataset of the event tables.")] = (
        "dev_events_dataset"
    )
    historical_dataset: Annotated[
        str,
        Meta(
            pattern=r"^\w{1,1024}$", description="BigQuery dataset of the events that are older than `RETENTION_DAYS`."
        ),
    ] = "historical_dataset"
    location: Annotated[str, Meta(min_length=2, description="BigQuery location of the dataset.")] = "us-central1"
    environment: Annotated[
        str, Meta(pattern=r"^[a-z0-9_-]{1,63}$", description="Value of the tables' `environment` label.")
    ] = "dev"
    retention_days: Annotated[
        int,
        Meta(
            ge=1,
            le=1825,
            description="Days that a partition lives; older events become dead letters."
            " BigQuery streams into partitions up to 1 825 days back"
            " (https://cloud.google.com/bigquery/docs/streaming-data-into-bigquery#streaming_into_partitioned_tables).",
        ),
    ] = 90
    ip_policy: Annotated[
        Literal["keep", "truncate", "hash"],
        Meta(description="Addresses in rows: as they came, cut to /24 or /48, or a keyed hash."),
    ] = "keep"
    ip_hash_key: Annotated[str, Meta(min_length=16, description="Secret key of `IP_POLICY=hash`.")] | None = None
    subscription: (
        Annotated[
            str,
            Meta(
                pattern=r"^projects/[^/]+/subscriptions/[^/]+$",
                description="Pub/Sub subscription that `drain` pulls; the other functions need none.",
            ),
        ]
        | None
    ) = None
    policy_tag_personal: (
        Annotated[
            str,
            Meta(
                pattern=_POLICY_TAG,
                description="Policy tag that the bootstrap puts on the columns that `sql/policy_tags.json` calls"
                " personal: `projects/.../locations/.../taxonomies/.../policyTags/...`; unset: none.",
            ),
        ]
        | None
    ) = None
    policy_tag_raw: (
        Annotated[str, Meta(pattern=_POLICY_TAG, description="The same for the columns that may hold original bytes.")]
        | None
    ) = None
    code_version: Annotated[str, Meta(description="Written to every row; unset: Cloud Run's K_REVISION.")] = "unknown"
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], Meta(description="Least severity that is logged.")
    ] = "INFO"
    batch_rows: Annotated[
        int,
        Meta(
            ge=1,
            le=50_000,
            description="Events in one flush, which are processed in a row: nothing else is done meanwhile. BigQuery"
            " advises 500 rows a request and takes 50 000"
            " (https://cloud.google.com/bigquery/quotas#streaming_inserts).",
        ),
    ] = 500
    batch_bytes: Annotated[
        int, Meta(ge=1, description="Bytes of messages in one flush; a larger message has a flush of its own.")
    ] = 2 * 2**20
    linger_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="Milliseconds that an event waits for the running flush to be archived before another flush"
            " starts beside it: the way around a flush that hangs. Where flushes take longer, it waits as long as one.",
        ),
    ] = 500
    flush_interval: Annotated[
        float,
        Meta(
            ge=0,
            description="Minimum seconds between the starts of two flushes whose events do not fill a batch. 0: as soon"
            " as the services allow. 1 or 2 writes fewer objects for less money, and events take up to as much longer;"
            " less than `FLUSH_TIMEOUT`.",
        ),
    ] = 0.0
    max_in_flight: Annotated[
        int,
        Meta(
            ge=1,
            description="Maximum number of events that wait for a flush or are in one; beyond: 429. It is fewer while"
            " BigQuery or Cloud Storage does not keep up.",
        ),
    ] = 2_000
    max_in_flight_bytes: Annotated[
        int,
        Meta(
            ge=1,
            description="Bytes of the requests that are arriving and of the messages in flight; beyond: 429."
            " Each may take six bytes of the function's memory.",
        ),
    ] = 32 * 2**20
    flush_timeout: Annotated[
        float,
        Meta(
            gt=0,
            le=250,
            description="Seconds that a flush may take, retries included. An event waits as long before its own"
            " flush at most, and a request may take 5 s to arrive, so it is answered within twice this and 5 s:"
            " keep that below the ack deadline.",
        ),
    ] = 25.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read and check all settings.

        Raises:
            InvalidSettings: A value is missing or wrong; names the variable.
        """
        names = {field.encode_name for field in msgspec.structs.fields(cls)}
        given = {name: value for name, value in environment.items() if name in names and value != ""}
        if "CODE_VERSION" not in given and "K_REVISION" in environment:
            given["CODE_VERSION"] = environment["K_REVISION"]
        try:
            settings = msgspec.convert(given, cls, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidSettings(f"environment: {error}") from error
        if settings.dataset.casefold() == settings.historical_dataset.casefold():
            raise InvalidSettings(
                f"environment: DATASET and HISTORICAL_DATASET are both {settings.dataset}; they must be different"
            )
        if settings.flush_interval >= settings.flush_timeout:
            raise InvalidSettings(
                f"environment: FLUSH_INTERVAL is {settings.flush_interval:g}; it must be less than FLUSH_TIMEOUT, which"
                f" is {settings.flush_timeout:g}: events would be given up before their flush starts"
            )
        return settings
