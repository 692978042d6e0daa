"""The files that Terraform deploys as scheduled queries are the queries of `sql/maintenance`, rendered."""

import re

import pytest

from tools.scheduled_queries import FOLDER, rendered

FILES = rendered()


def test_the_files_are_rendered_from_the_queries() -> None:
    """`python -m tools.scheduled_queries` writes them."""
    assert {file.name: file.read_text(encoding="utf-8") for file in FOLDER.iterdir()} == FILES


@pytest.mark.parametrize("name", FILES)
def test_a_scheduled_query_has_no_parameter_and_no_value_in_a_comment(name: str) -> None:
    lines = FILES[name].splitlines()
    assert not [line for line in lines if not line.lstrip().startswith("--") and re.search(r"@\w|\{\{|\{%", line)]
    assert not [line for line in lines if line.lstrip().startswith("--") and "$" in line]
