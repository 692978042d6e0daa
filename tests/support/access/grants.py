"""Roles that a plan of Terraform and the list in docs/access.md grant, by member."""

import collections
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tests.support.access.needs import Need
from tests.support.terraform import Planned

MEMBERS = {
    "readers": "group:analysts@example.com",
    "personal_data_readers": "group:support@example.com",
    "raw_data_readers": "group:auditors@example.com",
    "operators": "group:operators@example.com",
    "erasers": "group:privacy@example.com",
    "deployers": "user:ada@example.com",
    "ci": "serviceAccount:ci@a",
}
"""Members of each role in the plan; `ci` is the account of the workflows, which the plan makes."""

_BINDINGS: Mapping[str, tuple[str, str]] = {
    "google_artifact_registry_repository_iam_member": ("repository", "repository"),
    "google_bigquery_datapolicy_data_policy_iam_member": ("mask", "data_policy_id"),
    "google_cloud_run_v2_service_iam_member": ("service", "name"),
    "google_data_catalog_policy_tag_iam_member": ("tag", "policy_tag"),
    "google_data_catalog_taxonomy_iam_member": ("taxonomy", "taxonomy"),
    "google_kms_crypto_key_iam_member": ("key", "crypto_key_id"),
    "google_project_iam_member": ("project", ""),
    "google_pubsub_subscription_iam_member": ("subscription", "subscription"),
    "google_pubsub_topic_iam_member": ("topic", "topic"),
    "google_secret_manager_secret_iam_member": ("secret", ""),
    "google_service_account_iam_member": ("account", "service_account_id"),
    "google_storage_bucket_iam_member": ("bucket", "bucket"),
}
"""Kind of the resource of each binding, and the attribute with its name."""

_BASIC_ROLES = {
    "READER": "roles/bigquery.dataViewer",
    "WRITER": "roles/bigquery.dataEditor",
    "OWNER": "roles/bigquery.dataOwner",
}


class Binding(NamedTuple):
    """A role on a resource."""

    member: str
    role: str
    resource: str


class Grants:
    """The permissions of each member.

    Args:
        bindings: All of them.
        roles: Permissions by role.
    """

    def __init__(self, bindings: Iterable[Binding], roles: Mapping[str, Sequence[str]]) -> None:
        self._granted: collections.defaultdict[str, set[Need]] = collections.defaultdict(set)
        for member, role, resource in bindings:
            self._granted[member] |= {Need(permission, resource) for permission in roles.get(role, ())}

    def has(self, member: str, need: Need) -> bool:
        """Whether a member has a permission on a resource, or on what the resource is in."""
        return any(Need(need.permission, resource) in self._granted[member] for resource in _around(need.resource))


def _around(resource: str) -> Iterator[str]:
    yield resource
    if in_dataset := re.fullmatch(r"table (\w+)\.\w+", resource):
        yield f"dataset {in_dataset[1]}"
    yield "project"


def bindings_of(plan: Planned) -> Iterator[Binding]:
    """Yield all bindings of a plan; those of a dataset with a condition are of the tables that it names."""
    for address, attributes in plan.items():
        kind, _, name = address.partition(".")
        if kind in _BINDINGS:
            resource, attribute = _BINDINGS[kind]
            if not attributes.get("condition"):
                named = f"{resource} {_short(attributes[attribute])}" if attribute else resource
                yield Binding(attributes["member"], attributes["role"], named)
        elif re.search(r"_iam_(member|binding|policy)$", kind):
            raise KeyError(f"{kind} is missing in _BINDINGS")
        elif kind == "google_bigquery_dataset":
            yield from _of_dataset(re.findall(r'"(\w+)"', name)[0], address, attributes["access"])


def _of_dataset(key: str, address: str, entries: Iterable[Mapping[str, Any]]) -> Iterator[Binding]:
    dataset = key if ".events[" in address else f"{key} copy"
    for access in entries:
        role = _BASIC_ROLES.get(access["role"], access["role"])
        group = access["group_by_email"]
        member = f"group:{group}" if group else f"user:{access['user_by_email'] or access['special_group']}"
        named = [
            f"table {dataset}.{table}"
            for condition in access["condition"]
            for table in re.findall(r"/tables/(\w+)", condition["expression"])
        ]
        yield from (Binding(member, role, resource) for resource in named or [f"dataset {dataset}"])


def custom_roles_of(plan: Planned) -> dict[str, list[str]]:
    """Return the permissions of the roles that a plan makes."""
    return {
        attributes["id"]: attributes["permissions"]
        for address, attributes in plan.items()
        if address.startswith("google_project_iam_custom_role.")
    }


def _short(name: str) -> str:
    """Return a resource's name without project and environment; the ids of the mocks have neither."""
    name = re.sub(r"^the | tag$|@a$", "", name.rpartition("/")[2])
    return re.sub(r"^(a-project-)?sluice-prod-", "", name)
