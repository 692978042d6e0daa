"""Tables as their DDL declares them, in the terms of the BigQuery API."""

from collections.abc import Iterable
from typing import Any

from google.cloud import bigquery
from sqlglot import errors, exp, parse_one
from sqlglot.dialects.bigquery import (
    BigQuery,  # By its name it is loaded at its first use, half of it for other threads.
)

type Field = dict[str, Any]
"""A field of https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#TableFieldSchema."""

_DAY_MS = 86_400_000
_OPTIONS = "the options description, labels, partition_expiration_days and require_partition_filter"

_API_TYPES = {
    "BOOL": "BOOLEAN",
    "BYTES": "BYTES",
    "DATE": "DATE",
    "DATETIME": "DATETIME",
    "FLOAT64": "FLOAT",
    "GEOGRAPHY": "GEOGRAPHY",
    "INT64": "INTEGER",
    "JSON": "JSON",
    "NUMERIC": "NUMERIC",
    "BIGNUMERIC": "BIGNUMERIC",
    "STRING": "STRING",
    "TIME": "TIME",
    "TIMESTAMP": "TIMESTAMP",
}
"""Types of the API (https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#TableFieldSchema.FIELDS.type) by
those of GoogleSQL."""


class UnknownDdl(ValueError):
    """Raised for DDL with a part that Sluice does not compare and update; names the part and what is allowed."""


def declared_table(ddl: str) -> bigquery.Table:
    """Return the table that a `CREATE TABLE` statement declares.

    Args:
        ddl: One statement with columns, `PARTITION BY` a date or a timestamp's date, `CLUSTER BY`, and the options
            description, labels, partition_expiration_days and require_partition_filter.

    Raises:
        UnknownDdl: The statement has anything else, or is not GoogleSQL.
    """
    try:
        create = parse_one(ddl, dialect=BigQuery)
    except errors.SqlglotError as error:  # The lines after the first one show the place in colour.
        raise UnknownDdl(str(error).partition("\n")[0]) from error
    if not isinstance(create, exp.Create) or create.kind != "TABLE" or not isinstance(create.this, exp.Schema):
        raise UnknownDdl(f"{ddl.partition('\n')[0]}: a CREATE TABLE with columns is expected")
    name = create.this.this
    columns = [bigquery.SchemaField.from_api_repr(field) for field in _fields(create.this.expressions)]
    table = bigquery.Table(f"{name.catalog}.{name.db}.{name.name}", columns)
    expiration_days = None
    for part in _properties(create):
        match part:
            case exp.PartitionedByProperty():
                table.time_partitioning = _partitioning(part.this, columns)
            case exp.ClusterProperty():
                table.clustering_fields = [column.name for column in part.expressions]
            case exp.Property(this=exp.Var(this="description")):
                table.description = _string(part)
            case exp.Property(this=exp.Var(this="labels")):
                table.labels = _labels(part)
            case exp.Property(this=exp.Var(this="partition_expiration_days")):
                expiration_days = _days(part)
            case exp.Property(this=exp.Var(this="require_partition_filter")):
                table.require_partition_filter = part.args["value"].this is True
            case _:
                raise UnknownDdl(
                    f"table {table.table_id}: {part.sql('bigquery')} is not supported;"
                    f" supported are PARTITION BY, CLUSTER BY and {_OPTIONS}"
                )
    if expiration_days is not None:
        if table.time_partitioning is None:
            raise UnknownDdl(f"table {table.table_id}: partition_expiration_days needs PARTITION BY")
        table.time_partitioning.expiration_ms = round(expiration_days * _DAY_MS)
    return table


def _properties(create: exp.Create) -> Iterable[exp.Expression]:
    properties = create.args.get("properties")
    return properties.expressions if properties else ()


def _fields(columns: Iterable[exp.Expression]) -> list[Field]:
    fields: dict[str, Field] = {}
    for column in columns:
        field = _field(column)
        if (before := fields.setdefault(field["name"].casefold(), field)) is not field:
            raise UnknownDdl(f"column {field['name']}: {before['name']} has the same name; case makes no difference")
    return list(fields.values())


def _field(column: exp.Expression) -> Field:
    if not isinstance(column, exp.ColumnDef) or column.kind is None:
        raise UnknownDdl(f"{column.sql('bigquery')}: a column with a type is expected")
    field: Field = {"name": column.name, "mode": "NULLABLE"}
    for constraint in column.constraints:
        match constraint.kind:
            case exp.NotNullColumnConstraint():
                field["mode"] = "REQUIRED"
            case exp.Properties(expressions=[exp.Property(this=exp.Var(this="description")) as option]):
                field["description"] = _string(option)
            case _:
                raise UnknownDdl(
                    f"column {column.name}: {constraint.sql('bigquery')} is not supported;"
                    " supported are NOT NULL and a description"
                )
    kind = column.kind
    if kind.this == exp.DataType.Type.ARRAY:
        if field["mode"] == "REQUIRED":
            raise UnknownDdl(f"column {column.name}: BigQuery has no NOT NULL on an ARRAY")
        field["mode"], kind = "REPEATED", kind.expressions[0]
    if kind.this == exp.DataType.Type.STRUCT:
        return {**field, "type": "RECORD", "fields": _fields(kind.expressions)}
    name, _, parameters = kind.sql("bigquery").rstrip(")").partition("(")
    if name not in _API_TYPES:
        raise UnknownDdl(
            f"column {column.name}: type {name} is not supported;"
            f" supported are {', '.join(sorted(_API_TYPES))}, ARRAY and STRUCT"
        )
    return {**field, "type": _API_TYPES[name], **_type_parameters(name, parameters)}


def _type_parameters(type_name: str, parameters: str) -> Field:
    """Return the parameters of a type.

    https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#parameterized_data_types
    """
    names = ["maxLength"] if type_name in {"STRING", "BYTES"} else ["precision", "scale"]
    values = [value.strip() for value in parameters.split(",")] if parameters else []
    return dict(zip(names, values, strict=False))


def _partitioning(by: exp.Expression, columns: Iterable[bigquery.SchemaField]) -> bigquery.TimePartitioning:
    days = {"DATE": "{}", "DATETIME": "date({})", "TIMESTAMP": "date({})"}
    fields = {
        days[column.field_type].format(column.name.casefold()): column.name
        for column in columns
        if column.field_type in days
    }
    text = by.sql("bigquery")
    if (field := fields.get(text.replace("`", "").casefold())) is None:
        supported = "by a column of type DATE, or by DATE(column) of a TIMESTAMP or DATETIME"
        raise UnknownDdl(f"PARTITION BY {text}: Sluice knows partitions of days only, {supported}")
    return bigquery.TimePartitioning(type_=bigquery.TimePartitioningType.DAY, field=field)


def _string(option: exp.Property) -> str:
    value = option.args["value"]
    if not isinstance(value, exp.Literal) or not value.is_string:
        raise UnknownDdl(option.sql("bigquery"))
    return str(value.this)


def _days(option: exp.Property) -> float | None:
    value = option.args["value"]
    if isinstance(value, exp.Null):
        return None
    if not isinstance(value, exp.Literal) or value.is_string:
        raise UnknownDdl(option.sql("bigquery"))
    return float(value.this)


def _labels(option: exp.Property) -> dict[str, str]:
    labels: dict[str, str] = {}
    for pair in option.args["value"].expressions:
        key, value = pair.expressions
        labels[key.this] = value.this
    return labels
