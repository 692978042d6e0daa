"""SQL: Jinja2 renders its templates, and values are bound as query parameters."""

import functools
from typing import Any

from google.cloud.bigquery import ArrayQueryParameter, QueryJobConfig, ScalarQueryParameter
from jinja2 import Environment, StrictUndefined, Template, TemplateError, TemplateSyntaxError

type Parameter = tuple[str, Any]
"""Type of a query parameter in GoogleSQL, such as `DATE` or `ARRAY<STRING>`, and its value; None is NULL."""

# SQL is no HTML. Only names of settings and tables are rendered; values that a user gives are query parameters.
_ENVIRONMENT = Environment(
    autoescape=False,  # noqa: S701
    keep_trailing_newline=True,
    lstrip_blocks=True,
    trim_blocks=True,
    undefined=StrictUndefined,
)


class InvalidTemplate(ValueError):
    """A template has an error, or uses a name that has no value. The message says which."""


def render(template: str, /, **names: Any) -> str:  # noqa: ANN401 - whatever a template can use
    """Fill in the `{{ names }}` of a template, and run its `{% ... %}` statements.

    Raises:
        InvalidTemplate: The template has an error, or uses a name that is not given.
    """
    try:
        return _compile(template).render(names)
    except TemplateSyntaxError as error:
        raise InvalidTemplate(f"line {error.lineno}: {error.message}") from error
    except TemplateError as error:
        raise InvalidTemplate(str(error)) from error


@functools.cache
def _compile(template: str) -> Template:
    return _ENVIRONMENT.from_string(template)


def query_config(**parameters: Parameter) -> QueryJobConfig:
    """Return the configuration of a query with these values of its `@parameters`.

    For example `query_config(day=("DATE", day), ids=("ARRAY<STRING>", ids))`.
    """
    return QueryJobConfig(query_parameters=[_parameter(name, *typed) for name, typed in parameters.items()])


def _parameter(name: str, type_name: str, value: Any) -> ArrayQueryParameter | ScalarQueryParameter:  # noqa: ANN401
    if type_name.startswith("ARRAY<"):
        return ArrayQueryParameter(name, type_name.removeprefix("ARRAY<").removesuffix(">"), list(value))
    return ScalarQueryParameter(name, type_name, value)
