"""Rules of BigQuery's own, which the analyzer does not know; each with BigQuery's page."""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

import sqlglot
from sqlglot import exp

from tests.support.information_schema import VIEWS

DOCS = "https://cloud.google.com/bigquery/docs"
DDL = f"{DOCS}/reference/standard-sql/data-definition-language"

OPTIONS = {
    "SCHEMA": {
        "default_kms_key_name",
        "default_partition_expiration_days",
        "default_rounding_mode",
        "default_table_expiration_days",
        "description",
        "failover_reservation",
        "friendly_name",
        "is_case_insensitive",
        "is_primary",
        "labels",
        "location",
        "max_time_travel_hours",
        "primary_replica",
        "storage_billing_model",
        "tags",
    },
    "TABLE": {
        "default_rounding_mode",
        "description",
        "enable_change_history",
        "expiration_timestamp",
        "file_format",
        "friendly_name",
        "kms_key_name",
        "labels",
        "max_staleness",
        "partition_expiration_days",
        "require_partition_filter",
        "storage_uri",
        "table_format",
        "tags",
    },
    "VIEW": {"description", "expiration_timestamp", "friendly_name", "labels", "privacy_policy", "tags"},
    "MATERIALIZED VIEW": {
        "allow_non_incremental_definition",
        "description",
        "enable_refresh",
        "expiration_timestamp",
        "friendly_name",
        "kms_key_name",
        "labels",
        "max_staleness",
        "refresh_interval_minutes",
        "tags",
    },
    "SNAPSHOT": {"description", "expiration_timestamp", "friendly_name", "labels", "tags"},
    "COLUMN": {"data_policies", "description", "rounding_mode"},
    "VIEW COLUMN": {"description"},
    "EXPORT": {"compression", "field_delimiter", "format", "header", "overwrite", "uri", "use_avro_logical_types"},
}
"""The option lists of the pages of data definition and of EXPORT DATA."""

CLUSTERING_TYPES = {
    "BIGDECIMAL",
    "BIGINT",
    "BOOLEAN",
    "DATE",
    "DATETIME",
    "DECIMAL",
    "GEOGRAPHY",
    "TEXT",
    "TIMESTAMP",
    "TIMESTAMPTZ",
}
"""Types of clustering columns, in sqlglot's words."""

INCREMENTAL_AGGREGATES = (
    exp.AnyValue,
    exp.ApproxDistinct,
    exp.ArgMax,
    exp.ArgMin,
    exp.ArrayAgg,
    exp.Avg,
    exp.BitwiseAndAgg,
    exp.BitwiseOrAgg,
    exp.BitwiseXorAgg,
    exp.Count,
    exp.CountIf,
    exp.LogicalAnd,
    exp.LogicalOr,
    exp.Max,
    exp.Min,
    exp.Sum,
)
NON_DETERMINISTIC = (exp.CurrentDate, exp.CurrentDatetime, exp.CurrentTime, exp.CurrentTimestamp, exp.Rand, exp.Uuid)
NOT_INCREMENTAL = (exp.Window, exp.Having, exp.Qualify, exp.Order, exp.Limit, exp.Union, *NON_DETERMINISTIC)

RESERVED_PREFIXES = ("_table_", "_file_", "_partition", "_row_timestamp", "__root__", "_colidentifier")


@dataclasses.dataclass(frozen=True, slots=True)
class Statement:
    """A statement as sqlglot has it.

    Attributes:
        kind: Of `OPTIONS`; else the name of sqlglot's class.
        tree: The statement.
        tables: The `CREATE TABLE` statements, by `project.dataset.table`.
    """

    kind: str
    tree: exp.Expr
    tables: Mapping[str, exp.Create]


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """A rule.

    Attributes:
        name: What it asks for.
        source: BigQuery's page.
        violations: Yields each place of a statement that breaks it.
    """

    name: str
    source: str
    violations: Callable[[Statement], Iterator[str]]


def violations(sql: str, tables: Iterable[str] = ()) -> list[str]:
    """Each rule that a text of statements breaks, with the place.

    Args:
        sql: The statements.
        tables: `CREATE TABLE` statements that they rely on.
    """
    definitions = {_path(tree): tree for ddl in tables for _, tree in _parse(ddl) if isinstance(tree, exp.Create)}
    return [
        f"{rule.name}: {place}"
        for kind, tree in _parse(sql)
        for rule in RULES
        for place in rule.violations(Statement(kind, tree, definitions))
    ]


_CLONE_OPTIONS = re.compile(r"\b(CLONE\s+\S+)(?:\s+FOR SYSTEM_TIME AS OF @\w+)?\s+(OPTIONS\s*\(.*\))", re.DOTALL)


def _parse(sql: str) -> Iterator[tuple[str, exp.Expr]]:
    start = 0
    tokens = sqlglot.tokenize(sql, dialect="bigquery")
    for token, following in itertools.zip_longest(tokens, tokens[1:]):
        if sql[token.start : token.end + 1] == ";":
            start = token.end + 1
        elif following is None or sql[following.start : following.end + 1] == ";":
            yield _parse_one(sql[start : token.end + 1])


def _parse_one(text: str) -> tuple[str, exp.Expr]:
    """sqlglot knows no SNAPSHOT, no FOR SYSTEM_TIME after CLONE, and OPTIONS only before it."""
    standard = _CLONE_OPTIONS.sub(r"\2 \1", text.replace("SNAPSHOT TABLE", "TABLE"))
    tree = sqlglot.parse_one(standard, dialect="bigquery")
    assert not isinstance(tree, exp.Command), f"not understood: {text}"
    if isinstance(tree, exp.Export):
        return "EXPORT", tree
    if not isinstance(tree, exp.Create):
        return type(tree).__name__, tree
    if "SNAPSHOT TABLE" in text:
        return "SNAPSHOT", tree
    return "MATERIALIZED VIEW" if tree.find(exp.MaterializedProperty) else str(tree.kind), tree


def _path(create: exp.Expr) -> str:
    table = create.find(exp.Table)
    return ".".join(part.name for part in table.parts) if table else ""


def _properties(statement: Statement) -> list[exp.Expr]:
    options = statement.tree.args.get("options" if statement.kind == "EXPORT" else "properties")
    return list(options.expressions) if isinstance(options, exp.Properties) else []


def _columns(statement: Statement) -> list[exp.ColumnDef]:
    """Columns, and fields of STRUCTs at any depth."""
    return list(statement.tree.find_all(exp.ColumnDef))


def _top_level(create: exp.Expr) -> dict[str, exp.DataType]:
    schema = create.this
    columns = schema.expressions if isinstance(schema, exp.Schema) else []
    return {column.name: column.kind for column in columns if isinstance(column, exp.ColumnDef) and column.kind}


_WITH_CLASSES: Mapping[type[exp.Expr], str] = {exp.LocationProperty: "location", exp.FileFormatProperty: "format"}
"""Options that sqlglot has classes of their own for."""


def _option_name(option: exp.Expr) -> str | None:
    return option.name if type(option) is exp.Property else _WITH_CLASSES.get(type(option))


def _options(statement: Statement) -> Iterator[str]:
    for option in _properties(statement):
        name = _option_name(option)
        if name is not None and name not in OPTIONS.get(statement.kind, set()):
            yield f"{statement.kind} {name}"
    kind = "VIEW COLUMN" if statement.kind.endswith("VIEW") else "COLUMN"
    for column in _columns(statement):
        for option in column.find_all(exp.Property):
            if option.find_ancestor(exp.ColumnDef) is column and option.name not in OPTIONS[kind]:
                yield f"{kind} {column.name} {option.name}"


def _array_not_null(statement: Statement) -> Iterator[str]:
    for column in _columns(statement):
        is_array = column.kind is not None and column.kind.this == exp.DataType.Type.ARRAY
        if is_array and any(
            isinstance(constraint.kind, exp.NotNullColumnConstraint) for constraint in column.constraints
        ):
            yield column.name


def _clustering(statement: Statement) -> Iterator[str]:
    types = _top_level(statement.tree)
    for clustering in statement.tree.find_all(exp.ClusterProperty):
        if len(clustering.expressions) > 4:
            yield f"{len(clustering.expressions)} columns"
        for column in clustering.expressions if statement.kind == "TABLE" else ():
            type_ = types.get(column.name)
            if type_ is None or type_.this.name not in CLUSTERING_TYPES:
                yield f"{column.name} {type_}"


def _partitioning(statement: Statement) -> Iterator[str]:
    """Yield partitionings other than by a DATE or by DATE() of a TIMESTAMP, which are all that `sql/` uses."""
    types = _top_level(statement.tree)
    for partitioning in statement.tree.find_all(exp.PartitionedByProperty) if statement.kind == "TABLE" else ():
        wanted = ("TIMESTAMP", "TIMESTAMPTZ") if isinstance(partitioning.this, exp.Date) else ("DATE",)
        [name] = [identifier.name for identifier in partitioning.this.find_all(exp.Identifier)]
        if name not in types or types[name].this.name not in wanted:
            yield f"{partitioning.this} {types.get(name)}"


def _materialized_partitioning(statement: Statement) -> Iterator[str]:
    if statement.kind != "MATERIALIZED VIEW":
        return
    own = statement.tree.find(exp.PartitionedByProperty)
    if own is None:
        return
    for table in statement.tree.expression.find_all(exp.Table):
        base = statement.tables.get(_path(table))
        partitioning = base.find(exp.PartitionedByProperty) if base else None
        if partitioning is None or partitioning.this != own.this:
            yield f"{own.this} and {partitioning and partitioning.this} of {table.name}"


def _incremental(statement: Statement) -> Iterator[str]:
    if statement.kind != "MATERIALIZED VIEW":
        return
    query = statement.tree.expression
    for node in query.find_all(*NOT_INCREMENTAL):
        yield node.sql("bigquery").partition("(")[0]
    for aggregate in query.find_all(exp.AggFunc):
        if not isinstance(aggregate, INCREMENTAL_AGGREGATES):
            yield f"the aggregate {aggregate.sql('bigquery')}"
        elif not isinstance(aggregate.parent, exp.Alias | exp.Select):
            yield f"{aggregate.parent} is computed of an aggregate"


def _labels(statement: Statement) -> Iterator[str]:
    for option in _properties(statement):
        if option.name != "labels":
            continue
        pairs = [tuple(part.name for part in pair.expressions) for pair in option.args["value"].expressions]
        if len(pairs) > 64:
            yield f"{len(pairs)} labels"
        for key, value in pairs:
            if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", key) or not re.fullmatch(r"[a-z0-9_-]{0,63}", value):
                yield f"{key}={value}"


def _names(statement: Statement) -> Iterator[str]:
    for column in _columns(statement):
        name = column.name
        if not re.fullmatch(r"[A-Za-z_]\w{0,299}", name) or name.casefold().startswith(RESERVED_PREFIXES):
            yield name


def _descriptions(statement: Statement) -> Iterator[str]:
    for option in statement.tree.find_all(exp.Property):
        column = option.find_ancestor(exp.ColumnDef)
        limit = 1024 if column else 16384
        if option.name == "description" and len(option.args["value"].name) > limit:
            yield f"{column.name if column else statement.kind}: {len(option.args['value'].name)} characters"


def _region(statement: Statement) -> Iterator[str]:
    for table in statement.tree.find_all(exp.Table):
        view = table.name.removeprefix("INFORMATION_SCHEMA.")
        if view != table.name and VIEWS[view].regional is not table.db.startswith("region-"):
            yield f"{table.db}.{table.name}"


def _qualify(statement: Statement) -> Iterator[str]:
    for select in statement.tree.find_all(exp.Select):
        if select.args.get("qualify") and not any(select.args.get(clause) for clause in ("where", "group", "having")):
            yield select.sql("bigquery")


def _qualified(statement: Statement) -> Iterator[str]:
    ctes = {cte.alias_or_name for cte in statement.tree.find_all(exp.CTE)}
    for table in statement.tree.find_all(exp.Table):
        is_schema = statement.kind == "SCHEMA" and table.parent is statement.tree
        if not is_schema and not (table.catalog and table.db) and table.name not in ctes:
            yield table.name


def _view_parameters(statement: Statement) -> Iterator[str]:
    if statement.kind.endswith("VIEW"):
        for parameter in statement.tree.find_all(exp.Parameter):
            yield parameter.sql("bigquery")


RULES = (
    Rule("an option has to be one of the statement's", f"{DDL}#table_option_list", _options),
    Rule("an ARRAY cannot be NOT NULL", f"{DDL}#column_name_and_column_schema", _array_not_null),
    Rule("clustering: at most 4 top-level columns, of some types", f"{DOCS}/clustered-tables", _clustering),
    Rule("partitioning: a top-level DATE or TIMESTAMP", f"{DDL}#partition_expression", _partitioning),
    Rule(
        "a materialized view is partitioned as its table",
        f"{DOCS}/materialized-views-create#partitioned_materialized_views",
        _materialized_partitioning,
    ),
    Rule(
        "an incremental materialized view does not take everything",
        f"{DOCS}/materialized-views-create#query_limitations",
        _incremental,
    ),
    Rule("labels: lower case, 63 characters, 64 of them", f"{DOCS}/labels-intro#requirements", _labels),
    Rule("a column's name", f"{DOCS}/schemas#column_names", _names),
    Rule("a description has a limit", f"{DOCS}/schemas#column_descriptions", _descriptions),
    Rule(
        "some metadata views are read through a region, the others through a dataset",
        f"{DOCS}/information-schema-intro#syntax",
        _region,
    ),
    Rule(
        "QUALIFY needs WHERE, GROUP BY or HAVING beside it",
        f"{DOCS}/reference/standard-sql/query-syntax#qualify_clause",
        _qualify,
    ),
    Rule("a table has its project and dataset", f"{DOCS}/reference/standard-sql/lexical#table_names", _qualified),
    Rule("a view takes no parameters", f"{DOCS}/views#view_limitations", _view_parameters),
)
