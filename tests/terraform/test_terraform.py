"""The infrastructure as Terraform reads it, and what holds of it whatever the variables."""

import re

import msgspec
import pytest

from functions.schema.definitions import Kind, definitions
from functions.settings import Settings
from tests.support.configuration import configuration
from tests.support.terraform import FOLDER, Planned, Terraform, environment, passed, succeeded


def test_configuration_is_formatted_and_valid(terraform: Terraform) -> None:
    succeeded(terraform("fmt", "-check", "-recursive", "-diff"))
    assert "The configuration is valid" in succeeded(terraform("validate", "-no-color"))


@pytest.mark.parametrize("file", sorted(file.name for file in (FOLDER / "tests").glob("*.tftest.hcl")))
def test_terraform_s_own_tests_pass(terraform: Terraform, file: str) -> None:
    assert passed(terraform("test", "-no-color", f"-filter=tests/{file}"))


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_each_environment_passes_its_test_file(terraform: Terraform, name: str) -> None:
    assert passed(terraform(*environment(name)))


MODULE = configuration()

SOURCE = "\n".join(file.read_text() for file in sorted(FOLDER.glob("*.tf")))


def names(expression: str) -> set[str]:
    """Return the names of the values of an object in an expression."""
    return set(re.findall(r"[{,] ?(\w+) = ", expression))


def test_terraform_sets_exactly_the_settings_of_the_functions() -> None:
    settings = names(MODULE.local_values["settings"].partition("}")[0])
    settings |= {f"POLICY_TAG_{name.upper()}" for name in re.findall(r"(\w+) = {", MODULE.local_values["protections"])}
    settings |= set(re.findall(r'google_secret_manager_secret.ip_hash_key : "(\w+)" =>', SOURCE))
    read = {field.encode_name for field in msgspec.structs.fields(Settings)}
    assert settings == read - {"CODE_VERSION"}, "CODE_VERSION is the revision, which Cloud Run sets"


def test_the_defaults_of_the_group_commit_are_the_functions_own() -> None:
    defaults = {name: float(value) for name, value in MODULE.defaults("flush").items()}
    fields = {field.name: field.default for field in msgspec.structs.fields(Settings)}
    assert defaults
    assert defaults == {name: fields[name] for name in defaults}
    for name in ("dataset", "historical_dataset", "retention_days", "ip_policy", "log_level", "environment"):
        assert MODULE.variables[name]["default"] == fields[name], name


def test_every_binding_is_listed_by_a_test_of_terraform() -> None:
    listed = "".join(file.read_text() for file in FOLDER.glob("tests/*.tftest.hcl"))
    bindings = [name for name in MODULE.resources if re.search(r"_iam_(member|binding|policy)\.", name)]
    assert len(bindings) > 20
    assert [name for name in bindings if name not in listed] == []
    assert [name for name in bindings if not name.split(".")[0].endswith("_member")] == [], "a policy replaces others'"


def test_only_listed_roles_are_granted() -> None:
    assert set(re.findall(r'"(roles/[\w.]+)"', SOURCE)) == {
        "roles/artifactregistry.reader",
        "roles/artifactregistry.writer",
        "roles/bigquery.jobUser",
        "roles/bigquery.metadataViewer",
        "roles/bigquery.resourceViewer",
        "roles/bigquerydatapolicy.maskedReader",
        "roles/cloudfunctions.developer",
        "roles/cloudkms.cryptoKeyEncrypterDecrypter",
        "roles/dataflow.worker",
        "roles/datacatalog.categoryFineGrainedReader",
        "roles/datacatalog.viewer",
        "roles/iam.serviceAccountTokenCreator",
        "roles/iam.serviceAccountUser",
        "roles/iam.workloadIdentityUser",
        "roles/logging.logWriter",
        "roles/logging.viewer",
        "roles/monitoring.viewer",
        "roles/pubsub.publisher",
        "roles/pubsub.subscriber",
        "roles/pubsub.viewer",
        "roles/run.invoker",
        "roles/secretmanager.secretAccessor",
        "roles/storage.legacyBucketReader",
        "roles/storage.objectViewer",
    }


HOLDS_DATA = (
    "google_bigquery_dataset",
    "google_kms_crypto_key",
    "google_kms_key_ring",
    "google_pubsub_subscription",
    "google_pubsub_topic",
    "google_secret_manager_secret",
    "google_storage_bucket.archive",
)


def test_nothing_that_holds_data_is_destroyed_or_replaced_by_an_apply() -> None:
    kinds = {name.partition(".")[0] for name in HOLDS_DATA}
    holding = {
        name: body
        for name, body in MODULE.resources.items()
        if name.partition(".")[0] in kinds and name.startswith(HOLDS_DATA)
    }
    assert len(holding) == 10, list(holding)
    assert [name for name, body in holding.items() if not body["lifecycle"][0].get("prevent_destroy")] == []
    for name, body in holding.items():
        if name.startswith("google_bigquery_dataset"):
            assert body["delete_contents_on_destroy"] is False, name


def test_readers_have_all_tables_of_events_and_no_dead_letters(planned: Planned) -> None:
    """No column is masked in dev: the access itself ends before dead letters."""
    names = {
        name
        for dataset in ("live", "historical")
        for access in planned[f'google_bigquery_dataset.events["{dataset}"]']["access"]
        if access["group_by_email"] == "analysts@example.com"
        for condition in access["condition"]
        for name in re.findall(r'resource.name == "projects/a-project/datasets/([^"]+)"', condition["expression"])
    }
    assert names == {
        definition.name.replace(".", "/tables/")
        for definition in definitions("a-project", Settings(archive_bucket="any"))
        if definition.kind in {Kind.TABLE, Kind.VIEW} and not re.search("dead_letter|replays", definition.ddl)
    }


def test_everything_is_made_in_the_project_of_the_variable(planned: Planned) -> None:
    """Not in that of the caller's provider. A binding to what is named in full is in the project of the name."""
    named_in_full = r"google_(pubsub_\w+|secret_manager_secret|data_catalog_taxonomy)_iam_member"
    elsewhere = [
        address
        for address, attributes in planned.items()
        if attributes.get("project", "a-project") != "a-project" and not re.match(named_in_full, address)
    ]
    assert elsewhere == []


PROTECTS_DATA = (
    "google_bigquery_datapolicy_data_policy.masked",
    "google_bigquery_row_access_policy.all_rows",
    "google_data_catalog_policy_tag.protected",
    "google_data_catalog_taxonomy.protected",
)
"""Resources without which readers, whose access stays, would see more."""


def test_nothing_that_masks_kept_data_is_destroyed_by_an_apply() -> None:
    assert [name for name in PROTECTS_DATA if not MODULE.resources[name]["lifecycle"][0].get("prevent_destroy")] == []
    protecting = ("google_bigquery_datapolicy", "google_bigquery_row_access_policy", "google_data_catalog")
    others = {name for name in MODULE.resources if name.startswith(protecting) and "_iam_member." not in name}
    assert others - set(PROTECTS_DATA) == {"google_bigquery_row_access_policy.this"}
    one_by_one = MODULE.resources["google_bigquery_row_access_policy.this"]["depends_on"]
    assert one_by_one == ["${google_bigquery_row_access_policy.all_rows}"]


def test_tables_are_the_bootstrap_s() -> None:
    assert [name for name in MODULE.resources if name.startswith("google_bigquery_table")] == []


def test_a_plan_after_an_apply_is_empty_for_nothing_in_it_moves() -> None:
    assert re.findall(r"\b(?:plan)?timestamp\(\)|\buuid\(\)|\bbcrypt\(", SOURCE) == []


@pytest.mark.parametrize("name", MODULE.variables)
def test_each_variable_has_a_description_a_type_and_a_validation(name: str) -> None:
    variable = MODULE.variables[name]
    assert variable["description"]
    assert variable["type"]
    assert ("default" in variable and variable["default"] is None) or variable["nullable"] is False
    assert "validation" in variable or variable["type"] == "bool"


def test_each_output_has_a_description() -> None:
    assert MODULE.outputs
    assert [name for name, output in MODULE.outputs.items() if not output.get("description")] == []
