"""The examples are roots of their own that call the module, as a user's own root does."""

import pathlib
import re

import pytest
import yaml

from tests.support.configuration import configuration
from tests.support.terraform import FOLDER, passed, terraform

EXAMPLES = ("dev", "prod")


@pytest.mark.check
@pytest.mark.parametrize(("example", "backend"), [("dev", "local"), ("prod", "gcs")])
def test_an_example_is_valid_and_can_be_planned(tmp_path: pathlib.Path, example: str, backend: str) -> None:
    run = terraform(tmp_path, f"examples/{example}", backend)
    assert "The configuration is valid" in run("validate", "-no-color").stdout
    assert passed(run("test", "-no-color"))


@pytest.mark.check
def test_prod_with_its_state_on_this_machine_fails(tmp_path: pathlib.Path) -> None:
    tested = terraform(tmp_path, "examples/prod")("test", "-no-color")
    assert tested.returncode == 1
    assert "The state would be on this machine" in tested.stdout + tested.stderr


def test_the_provider_is_configured_by_the_roots_alone() -> None:
    """A module with a provider block can be called neither with count nor by a root with another configuration."""
    module = configuration()
    assert module.providers == {}
    assert [settings for settings in module.settings if "backend" in settings] == []
    for example in EXAMPLES:
        providers = configuration(FOLDER / "examples" / example).providers
        assert providers.keys() == {"google", "google-beta"}
        for provider in providers.values():
            assert provider["user_project_override"] is True, "budgets are asked for in the name of a project"


def test_everything_is_made_in_the_project_of_the_variable() -> None:
    """A resource without a project would be made in that of the provider, which a root may have for something else."""
    named_with_its_project = re.compile(
        r"google_(kms|data_catalog|service_account_iam|storage_bucket_|pubsub_\w+_iam|secret_manager_secret_iam|billing_budget)"
    )
    elsewhere = {
        address
        for address, body in configuration().resources.items()
        if address.startswith("google_") and "project" not in body and not named_with_its_project.match(address)
    }
    assert elsewhere == set()


def test_examples_require_the_versions_of_the_module() -> None:
    def versions(file: pathlib.Path) -> list[str]:
        return re.findall(r'version += "(.+)"', file.read_text())

    for example in EXAMPLES:
        assert versions(FOLDER / "examples" / example / "main.tf") == versions(FOLDER / "versions.tf")


def test_dependabot_updates_the_module_and_its_roots_together() -> None:
    """An update of the module alone could not be planned by any root."""
    [update] = [
        update
        for update in yaml.safe_load((FOLDER.parent / ".github" / "dependabot.yml").read_text())["updates"]
        if update["package-ecosystem"] == "terraform"
    ]
    roots = {
        f"/{file.parent.relative_to(FOLDER.parent)}"
        for file in FOLDER.rglob("*.tf")
        if "required_providers" in file.read_text()
    }
    assert set(update["directories"]) == roots
    assert update["groups"]


def test_the_providers_are_of_one_major_version() -> None:
    [constraint] = set(re.findall(r'^ +version += "(.+)"', (FOLDER / "versions.tf").read_text(), re.MULTILINE))
    assert re.fullmatch(r"~> \d+\.\d+", constraint)


def test_git_keeps_the_versions_that_were_applied() -> None:
    ignored = (FOLDER.parent / ".gitignore").read_text().splitlines()
    assert [line for line in ignored if "lock" in line or line.startswith("terraform/")] == []
