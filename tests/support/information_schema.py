"""The columns of BigQuery's INFORMATION_SCHEMA views, as documented; those views only that `sql/` reads."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, slots=True)
class MetadataView:
    """A view of INFORMATION_SCHEMA.

    Attributes:
        source: The page with its columns.
        regional: Whether it is read through a region; else through a dataset.
        columns: Type by name. Columns that nothing here is likely to read are left out.
    """

    source: str
    regional: bool
    columns: Mapping[str, str]


_TABLE = {"table_catalog": "STRING", "table_schema": "STRING", "table_name": "STRING"}

VIEWS = {
    "COLUMNS": MetadataView(
        "https://cloud.google.com/bigquery/docs/information-schema-columns",
        regional=False,
        columns={
            **_TABLE,
            "column_name": "STRING",
            "ordinal_position": "INT64",
            "is_nullable": "STRING",
            "data_type": "STRING",
            "is_generated": "STRING",
            "is_hidden": "STRING",
            "is_system_defined": "STRING",
            "is_partitioning_column": "STRING",
            "clustering_ordinal_position": "INT64",
            "column_default": "STRING",
        },
    ),
    "COLUMN_FIELD_PATHS": MetadataView(
        "https://cloud.google.com/bigquery/docs/information-schema-column-field-paths",
        regional=False,
        columns={
            **_TABLE,
            "column_name": "STRING",
            "field_path": "STRING",
            "data_type": "STRING",
            "description": "STRING",
        },
    ),
    "JOBS": MetadataView(
        "https://cloud.google.com/bigquery/docs/information-schema-jobs",
        regional=True,
        columns={
            "cache_hit": "BOOL",
            "creation_time": "TIMESTAMP",
            "end_time": "TIMESTAMP",
            "error_result": "STRUCT<reason STRING, location STRING, debug_info STRING, message STRING>",
            "job_id": "STRING",
            "job_type": "STRING",
            "labels": "ARRAY<STRUCT<key STRING, value STRING>>",
            "parent_job_id": "STRING",
            "priority": "STRING",
            "project_id": "STRING",
            "query": "STRING",
            "query_info": "STRUCT<query_hashes STRUCT<normalized_literals STRING>>",
            "referenced_tables": "ARRAY<STRUCT<project_id STRING, dataset_id STRING, table_id STRING>>",
            "start_time": "TIMESTAMP",
            "state": "STRING",
            "statement_type": "STRING",
            "total_bytes_billed": "INT64",
            "total_bytes_processed": "INT64",
            "total_slot_ms": "INT64",
            "user_email": "STRING",
        },
    ),
    "PARTITIONS": MetadataView(
        "https://cloud.google.com/bigquery/docs/information-schema-partitions",
        regional=False,
        columns={
            **_TABLE,
            "partition_id": "STRING",
            "total_rows": "INT64",
            "total_logical_bytes": "INT64",
            "last_modified_time": "TIMESTAMP",
            "storage_tier": "STRING",
        },
    ),
    "STREAMING_TIMELINE_BY_PROJECT": MetadataView(
        "https://cloud.google.com/bigquery/docs/information-schema-streaming",
        regional=True,
        columns={
            "start_timestamp": "TIMESTAMP",
            "project_id": "STRING",
            "project_number": "INT64",
            "dataset_id": "STRING",
            "table_id": "STRING",
            "error_code": "STRING",
            "total_requests": "INT64",
            "total_rows": "INT64",
            "total_input_bytes": "INT64",
        },
    ),
    "TABLE_SNAPSHOTS": MetadataView(
        "https://cloud.google.com/bigquery/docs/information-schema-snapshots",
        regional=False,
        columns={
            **_TABLE,
            "base_table_catalog": "STRING",
            "base_table_schema": "STRING",
            "base_table_name": "STRING",
            "snapshot_time": "TIMESTAMP",
        },
    ),
    "TABLE_STORAGE": MetadataView(
        "https://cloud.google.com/bigquery/docs/information-schema-table-storage",
        regional=True,
        columns={
            "project_id": "STRING",
            "project_number": "INT64",
            **_TABLE,
            "creation_time": "TIMESTAMP",
            "total_rows": "INT64",
            "total_partitions": "INT64",
            "total_logical_bytes": "INT64",
            "active_logical_bytes": "INT64",
            "long_term_logical_bytes": "INT64",
            "current_physical_bytes": "INT64",
            "total_physical_bytes": "INT64",
            "active_physical_bytes": "INT64",
            "long_term_physical_bytes": "INT64",
            "time_travel_physical_bytes": "INT64",
            "fail_safe_physical_bytes": "INT64",
            "storage_last_modified_time": "TIMESTAMP",
            "deleted": "BOOL",
            "table_type": "STRING",
        },
    ),
}
