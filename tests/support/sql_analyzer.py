"""Google's analyzer, with a catalog of what `sql/` defines."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zetasql import types
from zetasql.core.exceptions import ServerError
from zetasql.core.local_service import ZetaSqlLocalService

from functions.schema.ddl import Field
from functions.schema.definitions import Kind, definitions
from functions.settings import Settings
from functions.sql import Parameter
from tests.support.information_schema import VIEWS

IN_DEVELOPMENT = {
    "ALTER_COLUMN_SET_DATA_TYPE": "https://cloud.google.com/bigquery/docs/managing-table-schemas"
    "#change_a_columns_data_type",
    "CREATE_EXTERNAL_TABLE_WITH_PARTITION_COLUMNS": "https://cloud.google.com/bigquery/docs/reference/standard-sql/"
    "data-definition-language#create_external_table_statement",
    "CREATE_TABLE_CLONE": "https://cloud.google.com/bigquery/docs/reference/standard-sql/"
    "data-definition-language#create_table_clone_statement",
    "CREATE_VIEWS_WITH_COLUMN_OPTIONS": "https://cloud.google.com/bigquery/docs/reference/standard-sql/"
    "data-definition-language#view_column_option_list",
}
"""Features that BigQuery supports and the analyzer takes for unfinished, with BigQuery's page."""

API_TYPES = {
    types.TypeKind.TYPE_BOOL: "BOOLEAN",
    types.TypeKind.TYPE_BYTES: "BYTES",
    types.TypeKind.TYPE_DATE: "DATE",
    types.TypeKind.TYPE_DOUBLE: "FLOAT",
    types.TypeKind.TYPE_INT64: "INTEGER",
    types.TypeKind.TYPE_JSON: "JSON",
    types.TypeKind.TYPE_NUMERIC: "NUMERIC",
    types.TypeKind.TYPE_STRING: "STRING",
    types.TypeKind.TYPE_TIMESTAMP: "TIMESTAMP",
}


class WrongSql(Exception):
    """Raised when the analyzer rejects a statement; says where and why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Analyzed:
    """A statement that is right.

    Attributes:
        sql: Its text.
        resolved: What the analyzer makes of it, by type: `ResolvedQueryStmt`, `ResolvedMergeStmt`.
    """

    sql: str
    resolved: Any


class Analyzer:
    """Analyzes statements as BigQuery would, against tables that statements before have made."""

    def __init__(self, project: str, settings: Settings) -> None:
        self._service = _service()
        self._language = _language(self._service)
        builtin = types.ZetaSQLBuiltinFunctionOptions(language_options=self._language)
        self._catalog = types.SimpleCatalog(name=project, builtin_function_options=builtin)
        for dataset in (settings.dataset, settings.historical_dataset):
            self._add_information_schema([project, dataset], regional=False)
        self._add_information_schema([project, f"region-{settings.location}"], regional=True)

    @classmethod
    def of_the_warehouse(cls, project: str, settings: Settings) -> "Analyzer":
        """Return an analyzer that has all tables and views that the bootstrap makes.

        Raises:
            WrongSql: A statement of `sql/schema` or `sql/views` is wrong.
        """
        analyzer = cls(project, settings)
        for definition in definitions(project, settings):
            [statement] = analyzer.analyze(definition.ddl)
            if definition.kind is not Kind.DATASET:
                analyzer.add(statement.resolved)
        return analyzer

    def analyze(self, sql: str, parameters: Mapping[str, Parameter] | None = None) -> list[Analyzed]:
        """The statements of a text.

        Raises:
            WrongSql: One of them is wrong.
        """
        return list(self._statements(sql, parameters or {}))

    def evaluate(self, expression: str) -> str:
        """The text that an expression without columns makes, by Google's reference implementation.

        Raises:
            WrongSql: It is wrong, or no STRING.
        """
        try:
            value = self._service.evaluate(sql=expression).value.string_value
        except ServerError as error:
            raise WrongSql(f"{error}\n{expression}") from error
        if value is None:
            raise WrongSql(f"no STRING\n{expression}")
        return str(value)

    def add(self, created: Any) -> None:
        """Know the table or view that a `CREATE` statement makes."""
        if isinstance(created, types.ResolvedCreateTableStmt | types.ResolvedCreateExternalTableStmt):
            columns = [(column.name, column.type) for column in created.column_definition_list]
            if partitions := getattr(created, "with_partition_columns", None):
                columns += [(column.name, column.type) for column in partitions.column_definition_list]
        else:
            columns = [(column.name, column.column.type) for column in created.output_column_list]
        self._add(created.name_path, columns)

    def _statements(self, sql: str, parameters: Mapping[str, Parameter]) -> Iterator[Analyzed]:
        options = types.AnalyzerOptions(
            language_options=self._language,
            query_parameters=[
                types.AnalyzerOptions.QueryParameter(name=name, type=_scalar(type_name))
                for name, (type_name, _) in parameters.items()
            ],
            error_message_mode=types.ErrorMessageMode.ERROR_MESSAGE_MULTI_LINE_WITH_CARET,
        )
        text = sql.encode()
        position = 0
        while position < len(text):
            location = types.ParseResumeLocation(input=sql, byte_position=position)
            try:
                answer = self._service.analyze(
                    parse_resume_location=location, options=options, simple_catalog=self._catalog
                )
            except ServerError as error:
                raise WrongSql(f"{error}\n{text[position:].decode()}") from error
            yield Analyzed(text[position : answer.resume_byte_position].decode(), answer.resolved_statement)
            position = answer.resume_byte_position

    def _add(self, path: Sequence[str], columns: Sequence[tuple[str, Any]]) -> None:
        *names, last = path
        catalog = self._catalog
        for name in names:
            catalog = _inner(catalog, name)
        catalog.table.append(
            types.SimpleTable(
                name=last,
                full_name=".".join(path),
                column=[types.SimpleColumn(name=name, type=type_) for name, type_ in columns],
            )
        )

    def _add_information_schema(self, qualifier: list[str], *, regional: bool) -> None:
        for name, view in VIEWS.items():
            if view.regional is regional:
                self._add([*qualifier, "INFORMATION_SCHEMA", name], self._columns(tuple(view.columns.items())))

    def _columns(self, columns: tuple[tuple[str, str], ...]) -> list[tuple[str, Any]]:
        """Names and types as the analyzer has them, from their names in SQL."""
        declared = ", ".join(f"{name} {type_}" for name, type_ in columns)
        [statement] = self.analyze(f"CREATE TABLE `columns` ({declared})")
        return [(column.name, column.type) for column in statement.resolved.column_definition_list]


def fields(created: Any) -> list[Field]:
    """The columns of an analyzed `CREATE TABLE` as `functions.schema.ddl` has them: name, type and mode, nested too."""
    return [_field(column.name, column.type, column.annotations) for column in created.column_definition_list]


def _field(name: str, type_: Any, annotations: Any) -> Field:
    field: Field = {"name": name, "mode": "REQUIRED" if annotations and annotations.not_null else "NULLABLE"}
    if type_.array_type:
        field["mode"], type_ = "REPEATED", type_.array_type.element_type
        [annotations] = (annotations and annotations.child_list) or [None]
    if not type_.struct_type:
        return {**field, "type": API_TYPES[types.TypeKind(type_.type_kind)]}
    inner = type_.struct_type.field
    below = (annotations and annotations.child_list) or [None] * len(inner)
    nested = [
        _field(field.field_name, field.field_type, annotation) for field, annotation in zip(inner, below, strict=True)
    ]
    return {**field, "type": "RECORD", "fields": nested}


def _inner(catalog: Any, name: str) -> Any:
    for candidate in catalog.catalog:
        if candidate.name == name:
            return candidate
    catalog.catalog.append(types.SimpleCatalog(name=name))
    return catalog.catalog[-1]


def _scalar(name: str) -> Any:
    kinds = {"FLOAT64": "DOUBLE"}
    return types.Type(type_kind=types.TypeKind[f"TYPE_{kinds.get(name, name)}"])


@functools.cache
def _service() -> Any:
    return ZetaSqlLocalService.get_instance()


def _language(service: Any) -> Any:
    """GoogleSQL as BigQuery has it: every statement, QUALIFY a keyword, and no types of other products."""
    language = service.get_language_options(maximum_features=True)
    language.product_mode = types.ProductMode.PRODUCT_EXTERNAL
    language.supported_statement_kinds = [kind for kind in types.ResolvedNodeKind if kind.name.endswith("_STMT")]
    language.reserved_keywords = ["QUALIFY"]
    language.enabled_language_features = [
        *language.enabled_language_features,
        *(types.LanguageFeature[f"FEATURE_{name}"] for name in IN_DEVELOPMENT),
    ]
    return language
