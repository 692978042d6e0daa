"""The infrastructure as Terraform reads it, and what holds of it whatever the variables."""

import re
from collections.abc import Iterator

import msgspec
import pytest

from functions.schema.definitions import Kind, definitions
from functions.settings import Settings
from tests.support.terraform import FOLDER, Planned, Terraform, environment, passed, succeeded


def test_the_format_is_terraform_s_own_and_all_arguments_are_the_provider_s(terraform: Terraform) -> None:
    succeeded(terraform("fmt", "-check", "-recursive", "-diff"))
    assert "The configuration is valid" in succeeded(terraform("validate", "-no-color"))


@pytest.mark.parametrize("file", sorted(file.name for file in (FOLDER / "tests").glob("*.tftest.hcl")))
def test_terraform_s_own_tests_pass(terraform: Terraform, file: str) -> None:
    assert passed(terraform("test", "-no-color", f"-filter=tests/{file}"))


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_each_environment_is_what_its_file_says(terraform: Terraform, name: str) -> None:
    assert passed(terraform(*environment(name)))


def text(pattern: str = "*.tf") -> str:
    return "\n".join(file.read_text() for file in sorted(FOLDER.glob(pattern)))


def blocks(kind: str) -> Iterator[tuple[str, str]]:
    """Name and text of each top-level block, such as `google_pubsub_topic.events`."""
    for match in re.finditer(rf'^{kind} ((?:"\w+" ?)+)\{{\n(.*?)^\}}', text(), re.MULTILINE | re.DOTALL):
        yield ".".join(re.findall(r'"(\w+)"', match[1])), match[2]


def test_the_environment_has_exactly_the_settings_that_the_functions_read() -> None:
    [plain] = re.findall(r"^  settings = merge\(\{\n(.*?)^  \}, ", text(), re.MULTILINE | re.DOTALL)
    names = set(re.findall(r"^    (\w+) +=", plain, re.MULTILINE))
    [protections] = re.findall(r"^  protections = .*?\{\n(.*?)^  \} : \{\}", text(), re.MULTILINE | re.DOTALL)
    names |= {f"POLICY_TAG_{name.upper()}" for name in re.findall(r"^    (\w+) +=", protections, re.MULTILINE)}
    names |= set(re.findall(r'google_secret_manager_secret.ip_hash_key : "(\w+)" =>', text()))
    read = {field.encode_name for field in msgspec.structs.fields(Settings)}
    assert names == read - {"CODE_VERSION"}, "CODE_VERSION is the revision, which Cloud Run sets"


def test_the_defaults_of_the_group_commit_are_the_functions_own() -> None:
    flush = dict(blocks("variable"))["flush"]
    defaults = {name: float(value) for name, value in re.findall(r"(\w+) += optional\(number, ([\d.]+)\)", flush)}
    fields = {field.name: field.default for field in msgspec.structs.fields(Settings)}
    assert defaults
    assert defaults == {name: fields[name] for name in defaults}
    variables = dict(blocks("variable"))
    for name in ("dataset", "historical_dataset", "retention_days", "ip_policy", "log_level", "environment"):
        [default] = re.findall(r"^  default += \"?(\w+)\"?$", variables[name], re.MULTILINE)
        assert default == str(fields[name]), name


def test_every_binding_is_listed_by_a_test_of_terraform() -> None:
    listed = text("tests/*.tftest.hcl")
    bindings = [name for name, _ in blocks("resource") if re.search(r"_iam_(member|binding|policy)\.", name)]
    assert len(bindings) > 20
    assert [name for name in bindings if name not in listed] == []
    assert [name for name in bindings if not name.split(".")[0].endswith("_member")] == [], "a policy replaces others'"


def test_no_role_is_wider_than_what_it_is_for() -> None:
    assert set(re.findall(r'"(roles/[\w.]+)"', text())) == {
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
    holding = {
        name: body
        for name, body in blocks("resource")
        if name.startswith(HOLDS_DATA)
        and name.split(".")[0] + "." in [*(f"{kind}." for kind in HOLDS_DATA), "google_storage_bucket."]
    }
    assert len(holding) == 10, list(holding)
    assert [name for name, body in holding.items() if "prevent_destroy = true" not in body] == []
    for name, body in holding.items():
        if name.startswith("google_bigquery_dataset"):
            assert re.search(r"delete_contents_on_destroy += false", body), name


def test_who_reads_rows_reads_all_of_events_and_none_of_dead_letters(planned: Planned) -> None:
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
        if definition.kind is not Kind.DATASET and not re.search("dead_letter|replays", definition.ddl)
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
    resources = dict(blocks("resource"))
    assert [name for name in PROTECTS_DATA if "prevent_destroy = true" not in resources[name]] == []
    protecting = ("google_bigquery_datapolicy", "google_bigquery_row_access_policy", "google_data_catalog")
    others = {name for name in resources if name.startswith(protecting) and "_iam_member." not in name}
    assert others - set(PROTECTS_DATA) == {"google_bigquery_row_access_policy.this"}
    assert (
        "depends_on = [google_bigquery_row_access_policy.all_rows]"
        in resources["google_bigquery_row_access_policy.this"]
    )


def test_tables_are_the_bootstrap_s() -> None:
    assert "google_bigquery_table" not in text()


def test_a_plan_after_an_apply_is_empty_for_nothing_in_it_moves() -> None:
    assert re.findall(r"\b(?:plan)?timestamp\(\)|\buuid\(\)|\bbcrypt\(", text()) == []


@pytest.mark.parametrize(("name", "body"), list(blocks("variable")))
def test_a_variable_says_what_it_is_and_what_it_takes(name: str, body: str) -> None:
    assert re.search(r"^  description += \S", body, re.MULTILINE), name
    assert re.search(r"^  type += \S", body, re.MULTILINE), name
    optional = re.search(r"^  default += null$", body, re.MULTILINE)
    assert optional or re.search(r"^  nullable += false$", body, re.MULTILINE), name
    assert "validation {" in body or re.search(r"^  type += bool$", body, re.MULTILINE), name


def test_an_output_says_what_it_is() -> None:
    outputs = dict(blocks("output"))
    assert outputs
    assert [name for name, body in outputs.items() if "description" not in body] == []
