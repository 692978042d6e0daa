"""A function is served here with the variables, secrets and memory that Terraform deploys it with."""

from collections.abc import Mapping
from typing import Any

import pytest

from sluice.local.functions import LOCAL, MEMORY, SECRETS, platform_environment, served_environment
from sluice.local.names import EMULATORS
from tests.support.terraform import ENVIRONMENTS, Planned, Terraform, planned

KEY = "a key of the tests, long enough"

TAG = "projects/p/locations/l/taxonomies/1/policyTags/2"

WITHOUT_DEFAULT = {
    "ARCHIVE_BUCKET": "archive",
    "GOOGLE_CLOUD_PROJECT": "project",
    "POLICY_TAG_PERSONAL": TAG,
    "POLICY_TAG_RAW": TAG,
    "SUBSCRIPTION": "projects/project/subscriptions/ingest",
}

EMULATED = dict.fromkeys(EMULATORS, "127.0.0.1:1")

RESOURCES = {
    "ingest": "google_cloudfunctions2_function.ingest",
    "bootstrap": 'google_cloudfunctions2_function.called["bootstrap"]',
    "reconcile": 'google_cloudfunctions2_function.called["reconcile"]',
    "compact": 'google_cloudfunctions2_function.called["compact"]',
    "drain": "google_cloudfunctions2_function.drain[0]",
}


@pytest.fixture(scope="module")
def batch_plans(terraform: Terraform) -> Mapping[str, Planned]:
    """Terraform's plans of dev and prod in batch mode, by the name of the environment."""
    batch = '-var=ingest={mode="batch",max_instances=100}'
    return {name: planned(terraform, name, batch) for name in ENVIRONMENTS}


@pytest.fixture
def service(
    plans: Mapping[str, Planned], batch_plans: Mapping[str, Planned], environment: str, target: str
) -> dict[str, Any]:
    """Terraform's plan of a function."""
    plan = (batch_plans if target == "drain" else plans)[environment]
    [config] = plan[RESOURCES[target]]["service_config"]
    return {**config}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("target", RESOURCES)
def test_served_function_has_the_variables_of_terraform(service: dict[str, Any], target: str) -> None:
    """Given is what has no default; the local stack gives all functions the same."""
    by_terraform = {
        *service["environment_variables"],
        *(variable["key"] for variable in service["secret_environment_variables"]),
    }
    given = {name: value for name, value in WITHOUT_DEFAULT.items() if name in by_terraform}
    served = served_environment(target, 8080, {**given, "IP_HASH_KEY": KEY, **EMULATED})
    assert served.keys() >= EMULATED.keys()
    own = served.keys() - platform_environment(target, 8080).keys() - LOCAL.keys() - EMULATED.keys()
    if "IP_HASH_KEY" not in by_terraform:
        own -= SECRETS[target]  # where addresses are kept
    assert own == by_terraform


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("target", RESOURCES)
def test_a_function_has_the_memory_that_terraform_gives_it(service: dict[str, Any], target: str) -> None:
    memory = service["available_memory"]
    units = {"Mi": 2**20, "Gi": 2**30}
    assert int(memory[:-2]) * units[memory[-2:]] == MEMORY[target]
