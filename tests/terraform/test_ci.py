"""The workflow's account may do what its deployment asks for, as docs/release.md lists it, and no more."""

import collections
import pathlib
import re
from typing import NamedTuple

import pytest

from tests.support.deploy_script import deploy
from tests.support.terraform import ROOT, Planned, Terraform, planned

GITHUB = '-var=github={repository="acme@1/sluice@2",environment="prod"}'
MEMBER = "serviceAccount:ci@a"

# https://cloud.google.com/iam/docs/roles-permissions, as of November 2026; of each what is asked of it here.
PREDEFINED = {
    "roles/bigquery.jobUser": {"bigquery.jobs.create"},
    "roles/bigquerydatapolicy.maskedReader": {"bigquery.dataPolicies.maskedGet"},
    "roles/cloudfunctions.developer": {
        "cloudfunctions.functions.get",
        "cloudfunctions.functions.update",
        "cloudfunctions.operations.get",
        "cloudfunctions.runtimes.list",
        "resourcemanager.projects.get",
        "serviceusage.services.get",
    },
    "roles/iam.serviceAccountTokenCreator": {
        "iam.serviceAccounts.getAccessToken",
        "iam.serviceAccounts.getOpenIdToken",
    },
    "roles/iam.serviceAccountUser": {"iam.serviceAccounts.actAs"},
    "roles/pubsub.publisher": {"pubsub.topics.publish"},
    "roles/storage.objectViewer": {"storage.objects.get", "storage.objects.list"},
}

CUSTOM = {"ci deployer": "deployer", "ci releaser": "releaser", "record_reader": "record_reader"}
"""Ids of custom roles in the mocks, and their names on the page."""

PLACES = ("service_account_id", "bucket", "topic", "data_policy_id", "project")
"""Attributes that name a binding's resource; the project comes last, since everything is in one."""


class Row(NamedTuple):
    """A line of the page's table."""

    command: str
    permissions: set[str]
    places: set[str]
    role: str


def table() -> list[Row]:
    page = (ROOT / "docs" / "release.md").read_text().partition("## What the account may do")[2]
    cells = re.findall(r"^\| (`.+?) \| (.+?) \| (.+?) \| (.+?) \|$", page, re.MULTILINE)
    return [
        Row(command.strip("`"), set(re.findall(r"`([\w.]+)`", permissions)), set(places.split(", ")), role.strip("`"))
        for command, permissions, places, role in cells
    ]


@pytest.fixture(scope="module")
def plan(terraform: Terraform) -> Planned:
    """The plan of prod, where columns are protected."""
    return planned(terraform, "prod", GITHUB)


def bindings(plan: Planned) -> set[tuple[str, str]]:
    """Place and role of each binding of the account."""
    granted: set[tuple[str, str]] = set()
    for address, attributes in plan.items():
        if attributes.get("member") == MEMBER and "_iam_member." in address:
            place = next(attributes[name] for name in PLACES if attributes.get(name))
            role: str = attributes["role"]
            granted.add((_name(place), CUSTOM.get(role, role)))
        for access in attributes.get("access") or []:
            if access.get("user_by_email") == MEMBER.partition(":")[2]:
                assert address == 'google_bigquery_dataset.events["live"]'
                granted.add(("live", CUSTOM[access["role"]]))
    return granted


def _name(place: str) -> str:
    """Return the page's name of a resource."""
    names = {
        r"projects/.+/serviceAccounts/(\w+)@a": r"\1",
        r"a-project-sluice-prod-(packages|archive)": r"\1",
        r"sluice_prod_(personal|raw)": "columns",
        r"a-project": "project",
    }
    for pattern, name in names.items():
        if re.fullmatch(pattern, place):
            return re.sub(pattern, name, place)
    return place


def test_the_page_lists_the_bindings_of_the_account(plan: Planned) -> None:
    assert bindings(plan) == {(place, row.role) for row in table() for place in row.places}


def test_each_role_has_the_permissions_that_it_is_for(plan: Planned) -> None:
    roles = dict(PREDEFINED)
    for address, attributes in plan.items():
        if address.startswith("google_project_iam_custom_role."):
            [name] = re.findall(r'\["(\w+)"\]', address)
            roles[name] = set(attributes["permissions"])
    for row in table():
        assert row.permissions
        assert row.permissions <= roles[row.role], row


def test_each_custom_role_has_nothing_beyond(plan: Planned) -> None:
    needed = collections.defaultdict[str, set[str]](set)
    for row in table():
        needed[row.role] |= row.permissions
    for name in ("deployer", "releaser"):
        [role] = [
            resource for address, resource in plan.items() if address == f'google_project_iam_custom_role.ci["{name}"]'
        ]
        assert set(role["permissions"]) == needed[name]


def test_the_page_has_every_command_of_a_deployment(tmp_path: pathlib.Path) -> None:
    _, calls = deploy(tmp_path)
    run = {" ".join(["gcloud", *(word for word in call if not re.search(r"[/.=]|^-|sluice", word))]) for call in calls}
    script = re.sub(r"^#.*", "", (ROOT / "terraform" / "run_bootstrap.sh").read_text(), flags=re.MULTILINE)
    run |= {match.strip() for match in re.findall(r"gcloud(?: [a-z][\w-]+)+", script)}
    workflow = (ROOT / ".github" / "workflows" / "deploy.yml").read_text()
    assert ".venv/bin/sluice smoke --keep" in workflow, "it deletes nothing"
    assert run - {"gcloud curl"} | {"sluice smoke"} == {row.command for row in table()}
