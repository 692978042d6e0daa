"""The project, the settings and the arguments with which the tests render `sql/`."""

from functions.settings import Settings
from sluice.queries import Query

PROJECT = "a-project"
"""Project of the tests of Terraform, which renders SQL too."""

SETTINGS = Settings(archive_bucket="the-archive")

ANY = {"NAME": "orders", "TIMESTAMP": "2026-11-23T20:15:00", "DATE": "2026-11-23", "STRING": "a", "INT64": "1"}
"""Values for parameters that have no default, by type; `orders` is in both datasets."""


def given(query: Query) -> dict[str, str]:
    """Return values for the parameters that a caller has to choose."""
    return {
        parameter.name: "20261123" if parameter.name == "partition" else ANY[parameter.type]
        for parameter in query.parameters.values()
        if parameter.default is None
    }
