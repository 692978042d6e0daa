"""Settings are read once, and a wrong one is named."""

import msgspec
import pytest

from functions.settings import InvalidSettings, Settings
from sluice.local.stack import ACK_DEADLINE_SECONDS


def test_only_the_bucket_has_no_default() -> None:
    settings = Settings.from_environment({"ARCHIVE_BUCKET": "bucket"})
    assert (settings.dataset, settings.retention_days, settings.ip_policy) == ("dev_events_dataset", 90, "keep")
    with pytest.raises(InvalidSettings, match="ARCHIVE_BUCKET"):
        Settings.from_environment({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RETENTION_DAYS", "ninety"),
        ("RETENTION_DAYS", "0"),
        ("RETENTION_DAYS", "1826"),
        ("IP_POLICY", "drop"),
        ("IP_HASH_KEY", "short"),
        ("DATASET", "a-b"),
        ("HISTORICAL_DATASET", "Dev_Events_Dataset"),
        ("ENVIRONMENT", "Prod!"),
        ("BATCH_ROWS", "0"),
        ("FLUSH_TIMEOUT", "soon"),
        ("FLUSH_INTERVAL", "25"),
        ("LOG_LEVEL", "info"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidSettings, match=name):
        Settings.from_environment({"ARCHIVE_BUCKET": "bucket", name: value})


def test_an_empty_variable_is_the_same_as_none() -> None:
    assert Settings.from_environment({"ARCHIVE_BUCKET": "bucket", "DATASET": ""}).dataset == "dev_events_dataset"


def test_code_version_defaults_to_the_revision_of_cloud_run() -> None:
    given = {"ARCHIVE_BUCKET": "bucket", "K_REVISION": "ingest-00007"}
    assert Settings.from_environment(given).code_version == "ingest-00007"
    assert Settings.from_environment(given | {"CODE_VERSION": "1.2.3"}).code_version == "1.2.3"


def test_settings_are_frozen_and_each_is_documented() -> None:
    settings = Settings.from_environment({"ARCHIVE_BUCKET": "bucket"})
    with pytest.raises(AttributeError):
        settings.dataset = "other"  # type: ignore[misc]
    properties = next(iter(msgspec.json.schema(Settings)["$defs"].values()))["properties"]
    undocumented = [
        name
        for name, schema in properties.items()
        if not any("description" in option for option in schema.get("anyOf", [schema]))
    ]
    assert undocumented == []


def test_an_answer_comes_before_the_ack_deadline_by_default() -> None:
    settings = Settings.from_environment({"ARCHIVE_BUCKET": "bucket"})
    assert 2 * settings.flush_timeout < ACK_DEADLINE_SECONDS
