"""The plans of dev and prod: where things are, what they are called and labelled, and what prod has in addition."""

import re
from collections.abc import Mapping

import pytest

from tests.support.configuration import configuration
from tests.support.terraform import ENVIRONMENTS, Planned

LABELS = {
    "dev": {"environment": "dev", "managed_by": "cloud_function", "assessment": "data_engineering"},
    "prod": {"environment": "prod", "managed_by": "cloud_function"},
}

NAMES = ("account_id", "data_policy_id", "display_name", "name", "repository_id", "role_id", "secret_id", "service_id")
"""Attributes that may have the name of a resource."""

ONLY_IN_PROD = {
    "google_bigquery_data_transfer_config.copy",
    "google_bigquery_datapolicy_data_policy.masked",
    "google_bigquery_datapolicy_data_policy_iam_member.masked",
    "google_bigquery_dataset.copy",
    "google_billing_budget.monthly",
    "google_data_catalog_policy_tag.protected",
    "google_data_catalog_policy_tag_iam_member.reader",
    "google_data_catalog_taxonomy.protected",
    "google_data_catalog_taxonomy_iam_member.bootstrap",
    "google_monitoring_notification_channel.email",
    "google_secret_manager_secret.ip_hash_key",
    "google_secret_manager_secret_iam_member.ip_hash_key",
    "terraform_data.ip_hash_key",
}
"""Resources of hashed addresses, masked columns, copies, the budget and the recipients of alerts."""

COPIES = "google_bigquery_dataset.copy", "google_bigquery_data_transfer_config.copy"


def resource(address: str) -> str:
    """Return the address without the key of the instance."""
    return address.partition("[")[0]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_resources_have_the_labels_of_their_environment(plans: Mapping[str, Planned], environment: str) -> None:
    labels = {
        address: attributes.get("user_labels") or attributes["labels"]
        for address, attributes in plans[environment].items()
        if {"labels", "user_labels"} & attributes.keys()
    }
    assert len(labels) > 30
    assert {address: value for address, value in labels.items() if value != LABELS[environment]} == {}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_only_copies_lie_in_another_region(plans: Mapping[str, Planned], environment: str) -> None:
    places = {
        address: (attributes.get("location") or attributes["region"]).lower()
        for address, attributes in plans[environment].items()
        if (attributes.get("location") or attributes.get("region")) is not None
    }
    assert len(places) > 20
    elsewhere = {address: place for address, place in places.items() if place != "us-central1"}
    assert {resource(address) for address in elsewhere} == (set(COPIES) if environment == "prod" else set())
    assert set(elsewhere.values()) <= {"us-east1"}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_names_begin_with_that_of_the_environment(plans: Mapping[str, Planned], environment: str) -> None:
    """Two environments fit into one project. Datasets have the data model's names, tags those of columns."""
    named_by_others = re.compile(
        r"google_project_service|google_bigquery_dataset|google_data_catalog_policy_tag|google_monitoring_slo"
        r"|google_storage_bucket_object|google_\w+_iam_member|terraform_data"
    )
    prefix = re.compile(rf"(a-project-)?sluice[-_]{environment}\b|sluice_{environment}_")
    unnamed = {
        address: names
        for address, attributes in plans[environment].items()
        if not named_by_others.match(address)
        and (names := [attributes[name] for name in NAMES if isinstance(attributes.get(name), str)])
        and not any(prefix.match(name) for name in names)
    }
    assert unnamed == {}


def test_prod_has_the_resources_of_dev_and_data_protection(plans: Mapping[str, Planned]) -> None:
    dev, prod = ({resource(address) for address in plans[environment]} for environment in ENVIRONMENTS)
    assert dev - prod == set()
    assert prod - dev == ONLY_IN_PROD


def test_prod_keeps_seven_years_and_the_rest_for_longer_than_dev(plans: Mapping[str, Planned]) -> None:
    dev, prod = (plans[environment]["google_storage_bucket.archive"] for environment in ENVIRONMENTS)
    for bucket, kept in ((prod, 7 * 365), (dev, 730)):
        conditions = [rule["condition"][0] for rule in bucket["lifecycle_rule"]]
        assert [(condition["age"], condition["days_since_custom_time"]) for condition in conditions] == [
            (kept, None),
            (None, kept),
        ]
    days = [bucket["soft_delete_policy"][0]["retention_duration_seconds"] / 86_400 for bucket in (dev, prod)]
    assert days == [7, 30]
    snapshots = 'google_bigquery_data_transfer_config.scheduled["snapshot of orders"]'
    assert "INTERVAL 7 DAY" in plans["dev"][snapshots]["params"]["query"]
    assert "INTERVAL 90 DAY" in plans["prod"][snapshots]["params"]["query"]


@pytest.mark.parametrize(("environment", "disabled"), [("dev", ["no_events"]), ("prod", [])])
def test_all_alerts_ring_but_for_a_silent_dev(
    plans: Mapping[str, Planned], environment: str, disabled: list[str]
) -> None:
    alerts = {
        address.split('"')[1]: attributes["enabled"]
        for address, attributes in plans[environment].items()
        if resource(address) == "google_monitoring_alert_policy.this"
    }
    assert [key for key, enabled in alerts.items() if not enabled] == disabled


def test_tables_are_created_before_the_code_that_fills_them() -> None:
    resources = configuration().resources
    assert "${terraform_data.bootstrap}" in resources["google_cloudfunctions2_function.ingest"]["depends_on"]
    [provisioner] = resources["terraform_data.bootstrap"]["provisioner"]
    assert provisioner["local-exec"]["command"] == "sh ${path.module}/run_bootstrap.sh"
