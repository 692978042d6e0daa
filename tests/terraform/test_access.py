"""The people whom a documented command is for are granted the permissions that it needs."""

import collections
import re
import shlex

import pytest

from tests.support import terraform as running
from tests.support.access.documented import Documented, documented
from tests.support.access.grants import MEMBERS, Binding, Grants, bindings_of, custom_roles_of
from tests.support.access.needs import Need, predefined_roles, table
from tests.support.configuration import configuration
from tests.support.docs import ROOT
from tests.support.terraform import Planned, Terraform

pytestmark = pytest.mark.check

TABLE = table()

ROLES_OF_DEPLOYERS = re.findall(
    r"^\| `(roles/[\w.]+)` \| .* \| (.*) \|$", (ROOT / "docs" / "access.md").read_text(), re.MULTILINE
)
"""Role, and when it is needed, of the list in docs/access.md."""


NOT_OF_ACCESS = {"ci", "deployers"}
"""Roles that have variables of their own."""


@pytest.fixture(scope="module")
def engine_plans(terraform: Terraform) -> list[Planned]:
    """Terraform's plans of prod, where columns are masked and addresses hashed, with a member of each role.

    With Dataflow and in batch mode, each of which has all that the push has.
    """
    access = ", ".join(f'{role}=["{member}"]' for role, member in MEMBERS.items() if role not in NOT_OF_ACCESS)
    github = '-var=github={repository="acme/sluice"}'
    dataflow = ["-var=engine=dataflow", '-var=dataflow={image="us-docker.pkg.dev/a-project/sluice/dataflow:1"}']
    batch = ['-var=ingest={mode="batch",max_instances=100}']
    return [
        running.planned(terraform, "prod", f"-var=access={{{access}}}", github, *mode) for mode in (dataflow, batch)
    ]


@pytest.fixture(scope="module")
def grants(engine_plans: list[Planned]) -> Grants:
    """All that either of the two has: a command of one of them is not typed with the other."""
    bindings = [Binding(MEMBERS["deployers"], role, "project") for role, _ in ROLES_OF_DEPLOYERS]
    roles: dict[str, list[str]] = collections.defaultdict(list, predefined_roles())
    for plan in engine_plans:
        bindings += bindings_of(plan)
        for role, permissions in custom_roles_of(plan).items():
            roles[role] = [*roles[role], *permissions]
    return Grants(bindings, roles)


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> list[Documented]:
    return list(documented(tmp_path_factory.mktemp("commands")))


def test_each_documented_command_is_in_the_table_and_says_for_whom(commands: list[Documented]) -> None:
    assert len(commands) > 150
    unknown = [f"{usage.page}: {shlex.join(usage.command)}" for usage in commands if TABLE.entry(usage.command) is None]
    assert unknown == [], "add it to access/commands.yaml"
    nobody = {f"{usage.page}: {usage.section}" for usage in commands if not usage.roles}
    assert nobody == set(), "add a line `Role: ...`"
    assert {role for usage in commands for role in usage.roles} <= MEMBERS.keys()


def test_each_entry_of_the_table_is_of_a_documented_command(commands: list[Documented]) -> None:
    assert TABLE.commands.keys() - {TABLE.entry(usage.command) for usage in commands} == set()
    used = {ability for abilities in TABLE.commands.values() for ability in abilities}
    assert used == TABLE.abilities.keys()


def test_documented_roles_may_run_each_command(commands: list[Documented], grants: Grants) -> None:
    lacking: dict[str, set[str]] = {}
    for usage in commands:
        entry = TABLE.entry(usage.command)
        if entry is None:
            continue
        for role in usage.roles:
            for need in TABLE.needs(entry):
                tagged = not (role == "deployers" and need.resource.startswith("tag "))  # without Terraform, none is
                if tagged and entry not in TABLE.rejected.get(role, ()) and not grants.has(MEMBERS[role], need):
                    lacking.setdefault(f"{role}: {need.permission} on {need.resource}", set()).add(entry)
    assert lacking == {}


def test_documented_rejections_lack_a_permission(grants: Grants) -> None:
    for role, entries in TABLE.rejected.items():
        for entry in entries:
            assert not all(grants.has(MEMBERS[role], need) for need in TABLE.needs(entry)), entry


def test_operators_may_not_change_deployed_resources(grants: Grants) -> None:
    forbidden = [
        Need("bigquery.datasets.update", "dataset live"),
        Need("bigquery.rowAccessPolicies.delete", "dataset live"),
        Need("bigquery.tables.setCategory", "dataset live"),
        Need("cloudscheduler.jobs.update", "project"),
        Need("datacatalog.taxonomies.update", "project"),
        Need("iam.serviceAccounts.actAs", "account bootstrap"),
        Need("iam.serviceAccounts.actAs", "project"),
        Need("pubsub.subscriptions.delete", "subscription ingest"),
        Need("run.services.setIamPolicy", "service ingest"),
        Need("run.services.update", "service bootstrap"),
        Need("storage.buckets.update", "bucket archive"),
    ]
    assert [need for need in forbidden if grants.has(MEMBERS["operators"], need)] == []


def test_documented_roles_suffice_to_deploy_without_terraform(commands: list[Documented]) -> None:
    always = [
        Binding("deployer", role, "project") for role, when in ROLES_OF_DEPLOYERS if when in {"always", "for Dataflow"}
    ]
    grants = Grants(always, predefined_roles())
    lacking = {
        f"{need.permission}: {usage.section}"
        for usage in commands
        if usage.page == "deploy" and usage.roles[0] == "deployers" and usage.command[0] not in {"curl", "terraform"}
        if (entry := TABLE.entry(usage.command))
        for need in TABLE.needs(entry)
        if not need.resource.startswith("tag ") and not grants.has("deployer", need)
    }
    assert lacking == set()


def test_a_deployer_may_make_each_kind_of_resource(grants: Grants) -> None:
    kinds = {address.partition(".")[0] for address in configuration().resources} - {"terraform_data"}
    assert kinds == TABLE.resources.keys()
    lacking = [
        (kind, permission)
        for kind, permissions in TABLE.resources.items()
        for permission in permissions
        if not grants.has(MEMBERS["deployers"], Need(permission, "project"))
    ]
    assert lacking == []
