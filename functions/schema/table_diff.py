"""The differences between a live table and its DDL, and the update that removes them in place and without loss."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from google.cloud import bigquery

from functions.schema.ddl import Field, declared_table

_DAY_MS = 86_400_000

_STANDARD_TYPES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}
_TYPE_PARAMETERS = ("maxLength", "precision", "scale")


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """A difference between a live table and its DDL.

    Attributes:
        path: The column (`items.price` for a nested one), or the table's property.
        before: The live definition; None if there is none.
        after: The declared definition; None if there is none.
        rejected: Reason why the table cannot be updated; None if it can.
    """

    path: str
    before: str | None
    after: str | None
    rejected: str | None = None

    def __str__(self) -> str:
        """Return a line of a diff: `+ items.color STRING`, `~ status NOT NULL -> NULLABLE`."""
        if self.before is None:
            line = f"+ {self.path} {self.after}"
        elif self.after is None:
            line = f"- {self.path} {self.before}"
        else:
            line = f"~ {self.path} {self.before} -> {self.after}"
        return f"{line}: {self.rejected}" if self.rejected else line


@dataclasses.dataclass(frozen=True, slots=True)
class TableDiff:
    """All differences between a live table and its DDL, and the update that removes them.

    Attributes:
        table: If nothing is rejected, the live table as declared, with its etag, for `update_table`.
        fields: Fields that `update_table` has to send.
        differences: All differences; empty where the table is as declared.
        manual_statements: Statements for those rejected conversions that BigQuery can make.
    """

    table: bigquery.Table
    fields: Sequence[str]
    differences: Sequence[Difference]
    manual_statements: Sequence[str]

    @property
    def rejected(self) -> list[Difference]:
        """The differences that are not additive."""
        return [difference for difference in self.differences if difference.rejected]


def table_diff(live: bigquery.Table, ddl: str, policy_tags: Mapping[str, str] = MappingProxyType({})) -> TableDiff:
    """Compare a live table with its DDL.

    Additive differences are applied: a new nullable or repeated column, also inside a STRUCT; a dropped NOT NULL;
    descriptions; labels; clustering; a longer retention; the required partition filter; policy tags. All others are
    rejected. Labels and policy tags that others have set are kept, and so is the order of the columns: BigQuery
    appends new ones.

    Args:
        live: The table that `get_table` returns.
        ddl: A `CREATE TABLE` statement.
        policy_tags: Resource names of policy tags by column.

    Raises:
        UnknownDdl: The DDL has a part that cannot be compared.
    """
    declared = declared_table(ddl)
    table: bigquery.Table = bigquery.Table.from_api_repr(live.to_api_repr())
    schema, columns = _fields(_schema(live), list(_tagged(_schema(declared), policy_tags)))
    table.schema = schema
    updates = {
        "schema": columns,
        "description": list(_property("description", live.description, declared.description)),
        "labels": list(_labels(live.labels, declared.labels)),
        "time_partitioning": list(_partitioning(live.time_partitioning, declared.time_partitioning)),
        "clustering_fields": list(_property("clustering", live.clustering_fields, declared.clustering_fields)),
        "require_partition_filter": list(
            _property(
                "require_partition_filter",
                live.require_partition_filter or None,
                declared.require_partition_filter or None,
            )
        ),
    }
    table.description = declared.description
    table.labels = {**live.labels, **declared.labels}
    table.time_partitioning = _sent(declared.time_partitioning)
    table.clustering_fields = declared.clustering_fields
    table.require_partition_filter = declared.require_partition_filter
    return TableDiff(
        table,
        [field for field, differences in updates.items() if differences],
        [difference for differences in updates.values() for difference in differences],
        list(_conversions(live, _schema(declared))),
    )


def _schema(table: bigquery.Table) -> list[Field]:
    return list(table.to_api_repr().get("schema", {}).get("fields", ()))


def _fields(
    live: Sequence[Field], declared: Sequence[Field], path: str = "", *, in_array: bool = False
) -> tuple[list[Field], list[Difference]]:
    """Return the live fields with the new ones, and their differences."""
    wanted = _by_name(declared)
    merged: list[Field] = []
    differences: list[Difference] = []
    for field in live:
        name = path + field["name"]
        if (target := wanted.pop(field["name"].casefold(), None)) is None:
            why = "the DDL has no such column; to drop or rename a column would lose its data"
            differences.append(Difference(name, _type(field), None, why))
            merged.append(field)
        else:
            follows, differences_of_field = _field(field, target, name, in_array)
            merged.append(follows)
            differences.extend(differences_of_field)
    live_fields = _by_name(live)
    for position, field in enumerate(declared):
        if field["name"].casefold() in live_fields:
            continue
        before_known = any(later["name"].casefold() in live_fields for later in declared[position + 1 :])
        differences.append(
            Difference(path + field["name"], None, _type(field), _reject_added(field, path, before_known))
        )
        merged.append(field)
    return merged, differences


def _tagged(fields: Sequence[Field], policy_tags: Mapping[str, str], path: str = "") -> Iterator[Field]:
    for field in fields:
        name = path + field["name"]
        tagged = dict(field)
        if name in policy_tags:
            tagged["policyTags"] = {"names": [policy_tags[name]]}
        if "fields" in field:
            tagged["fields"] = list(_tagged(field["fields"], policy_tags, f"{name}."))
        yield tagged


def _by_name(fields: Sequence[Field]) -> dict[str, Field]:
    return {field["name"].casefold(): field for field in fields}


def _reject_added(field: Field, path: str, before_known: bool) -> str | None:
    """Return why BigQuery cannot add a field (https://cloud.google.com/bigquery/docs/managing-table-schemas#add_column)."""
    if field["mode"] == "REQUIRED":
        return "a new column cannot be NOT NULL: existing rows have no value"
    if path and before_known:
        return "a new field of a STRUCT must be the last one: BigQuery appends it, and the order is part of the type"
    return None


def _field(live: Field, declared: Field, name: str, in_array: bool) -> tuple[Field, list[Difference]]:
    differences: list[Difference] = []
    merged = dict(live)
    in_array = in_array or live.get("mode") == "REPEATED"
    if (live["type"], _limits(live)) != (declared["type"], _limits(declared)):
        why = _reject_converted(live, declared) or (
            "BigQuery converts no values in an ARRAY; create a new table by a query"
            if in_array
            else "BigQuery converts it only by ALTER COLUMN SET DATA TYPE"
        )
        differences.append(Difference(name, _type(live), _type(declared), why))
    if (was := live.get("mode", "NULLABLE")) != declared["mode"]:
        relaxed = (was, declared["mode"]) == ("REQUIRED", "NULLABLE")
        why_not = None if relaxed else _WHY_MODES[declared["mode"]]
        differences.append(Difference(name, _MODES[was], _MODES[declared["mode"]], why_not))
        merged["mode"] = declared["mode"]
    differences.extend(_property(f"{name} description", live.get("description"), declared.get("description")))
    merged["description"] = declared.get("description")
    if "policyTags" in declared:
        was, becomes = (", ".join(field.get("policyTags", {}).get("names", ())) for field in (live, declared))
        differences.extend(_property(f"{name} policy tag", was or None, becomes))
        merged["policyTags"] = declared["policyTags"]
    if live["type"] == declared["type"] == "RECORD":
        differences.extend(_order(live["fields"], declared["fields"], name))
        merged["fields"], inner = _fields(live["fields"], declared["fields"], f"{name}.", in_array=in_array)
        differences.extend(inner)
    return merged, differences


_MODES = {"REQUIRED": "NOT NULL", "NULLABLE": "NULLABLE", "REPEATED": "ARRAY"}
_WHY_MODES = {
    "REQUIRED": "existing rows may have no value",
    "NULLABLE": "BigQuery cannot make an ARRAY a single value",
    "REPEATED": "BigQuery cannot make a single value an ARRAY",
}


def _limits(field: Field) -> dict[str, int]:
    return {key: int(field[key]) for key in _TYPE_PARAMETERS if key in field}


_CONVERSIONS = {"INTEGER": {"NUMERIC", "BIGNUMERIC", "FLOAT"}, "NUMERIC": {"BIGNUMERIC", "FLOAT"}}
"""Types into which numbers are coerced (https://cloud.google.com/bigquery/docs/reference/standard-sql/conversion_rules)."""


def _reject_converted(live: Field, declared: Field) -> str | None:
    if live["type"] != declared["type"] and declared["type"] not in _CONVERSIONS.get(live["type"], ()):
        before, after = (_STANDARD_TYPES.get(field["type"], field["type"]) for field in (live, declared))
        return f"BigQuery converts no {before} into {after}; add a new column and fill it by a query"
    return None if _wider(_limits(live), _limits(declared)) else "existing values may not fit"


def _wider(before: Mapping[str, int], after: Mapping[str, int]) -> bool:
    if not after:
        return True
    if not before:
        return False
    integer_digits = [limits.get("precision", 0) - limits.get("scale", 0) for limits in (before, after)]
    return integer_digits[0] <= integer_digits[1] and all(after.get(key, 0) >= limit for key, limit in before.items())


def _conversions(table: bigquery.Table, declared: Sequence[Field]) -> Iterator[str]:
    """Yield a statement for each column that can be converted; for a STRUCT it has the types of all its fields.

    The API cannot convert: https://cloud.google.com/bigquery/docs/managing-table-schemas#change_a_columns_data_type.
    """
    wanted = _by_name(declared)
    for field in _schema(table):
        converted = _converted(field, wanted.get(field["name"].casefold(), field))
        if converted != field:
            kind = _type(converted).replace(" NOT NULL", "")  # ALTER COLUMN allows no NOT NULL.
            yield f"ALTER TABLE `{table.reference}` ALTER COLUMN {field['name']} SET DATA TYPE {kind}"


def _converted(live: Field, declared: Field) -> Field:
    """Return the live field with the declared types, also of its fields, as far as BigQuery converts them."""
    if live.get("mode") == "REPEATED" or _reject_converted(live, declared):
        return live
    if live["type"] == declared["type"] == "RECORD":
        wanted = _by_name(declared["fields"])
        inner = [_converted(field, wanted.get(field["name"].casefold(), field)) for field in live["fields"]]
        return {**live, "fields": inner}
    shape = {key: declared[key] for key in ("type", *_TYPE_PARAMETERS) if key in declared}
    return {key: value for key, value in live.items() if key not in _TYPE_PARAMETERS} | shape


def _order(live: Sequence[Field], declared: Sequence[Field], name: str) -> Iterator[Difference]:
    before, after = _by_name(live), _by_name(declared)
    was, becomes = ([key for key in fields if key in before and key in after] for fields in (before, after))
    if was != becomes:
        why = "BigQuery cannot reorder the fields of a STRUCT, and the order is part of its type"
        yield Difference(f"{name} order", ", ".join(was), ", ".join(becomes), why)


def _type(field: Field) -> str:
    """Return a field's type as DDL has it: `ARRAY<STRUCT<product_id STRING>>`, `NUMERIC(10, 2)`, `STRING NOT NULL`."""
    kind: str = field["type"]
    parts = [_STANDARD_TYPES.get(kind, kind)]
    if limits := _limits(field):
        parts.append(f"({', '.join(map(str, limits.values()))})")
    if "fields" in field:
        parts.append(f"<{', '.join(f'{inner["name"]} {_type(inner)}' for inner in field['fields'])}>")
    name = "".join(parts)
    match field.get("mode"):
        case "REPEATED":
            return f"ARRAY<{name}>"
        case "REQUIRED":
            return f"{name} NOT NULL"
    return name


def _property(name: str, before: object, after: object) -> Iterator[Difference]:
    if before != after:
        yield Difference(name, _text(before), _text(after))


def _text(value: object) -> str | None:
    return None if value is None else f'"{value}"' if isinstance(value, str) else str(value)


def _labels(live: Mapping[str, str], declared: Mapping[str, str]) -> Iterator[Difference]:
    for key, value in declared.items():
        yield from _property(f"label {key}", live.get(key), value)


def _partitioning(
    live: bigquery.TimePartitioning | None, declared: bigquery.TimePartitioning | None
) -> Iterator[Difference]:
    before, after = (
        f"{partitioning.type_} of {partitioning.field}" if partitioning else None for partitioning in (live, declared)
    )
    if before != after:
        yield Difference("partitioning", before, after, "BigQuery cannot change how a table is partitioned")
    was, becomes = (
        partitioning.expiration_ms / _DAY_MS if partitioning and partitioning.expiration_ms else None
        for partitioning in (live, declared)
    )
    if was != becomes:
        shorter = becomes is not None and (was is None or becomes < was)
        why = "it would delete partitions at once; if that is intended, run ALTER TABLE" if shorter else None
        yield Difference("partition expiration", _days(was), _days(becomes), why)


def _sent(partitioning: bigquery.TimePartitioning | None) -> bigquery.TimePartitioning | None:
    """Send `expirationMs: null` explicitly: PATCH leaves omitted fields unchanged."""
    if partitioning and partitioning.expiration_ms is None:
        partitioning.expiration_ms = None
    return partitioning


def _days(days: float | None) -> str:
    return "none" if days is None else f"{days:g} days"
