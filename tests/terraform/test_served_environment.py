"""A function is served here with the variables, secrets and memory that Terraform deploys it with."""

from collections.abc import Mapping
from typing import Any

import pytest

from sluice.local.functions import LOCAL, MEMORY, SECRETS, platform_environment, served_environment
from sluice.local.names import EMULATORS
from tests.support.terraform import ENVIRONMENTS, Planned

KEY = "a key of the tests, long enough"

TAG = "projects/p/locations/l/taxonomies/1/policyTags/2"

WITHOUT_DEFAULT = {
    "ARCHIVE_BUCKET": "archive",
    "GOOGLE_CLOUD_PROJECT": "project",
    "POLICY_TAG_PERSONAL": TAG,
    "POLICY_TAG_RAW": TAG,
}

EMULATED = dict.fromkeys(EMULATORS, "127.0.0.1:1")

RESOURCES = {
    "ingest": "google_cloudfunctions2_function.ingest",
    "bootstrap": 'google_cloudfunctions2_function.called["bootstrap"]',
    "reconcile": 'google_cloudfunctions2_function.called["reconcile"]',
}


def service(plan: Planned, target: str) -> dict[str, Any]:
    """Return Terraform's plan of a function."""
    [config] = plan[RESOURCES[target]]["service_config"]
    return {**config}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("target", RESOURCES)
def test_served_function_has_the_variables_of_terraform(
    plans: Mapping[str, Planned], environment: str, target: str
) -> None:
    """Given is what has no default; the local stack gives all functions the same."""
    config = service(plans[environment], target)
    by_terraform = {
        *config["environment_variables"],
        *(variable["key"] for variable in config["secret_environment_variables"]),
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
def test_a_function_has_the_memory_that_terraform_gives_it(
    plans: Mapping[str, Planned], environment: str, target: str
) -> None:
    memory = service(plans[environment], target)["available_memory"]
    units = {"Mi": 2**20, "Gi": 2**30}
    assert int(memory[:-2]) * units[memory[-2:]] == MEMORY[target]
