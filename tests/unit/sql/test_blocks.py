"""A query that asks each table asks that of every event type."""

import re

from functions.events import event_types
from sluice.queries import queries
from tests.support.sql_arguments import PROJECT, SETTINGS, given

TABLES = {event_type.table for event_type in event_types().values()}


def test_table_block_is_expanded_for_each_table() -> None:
    with_block = [query for query in queries().values() if "{% for event_type in event_types %}" in query.template]
    assert with_block
    for query in with_block:
        sql = query.bind(PROJECT, SETTINGS, given(query)).sql
        assert re.search(r"\{%|%\}", sql) is None, query.name
        assert {table for table in TABLES if f".{table}`" in sql or f"'{table}'" in sql} == TABLES, query.name


def test_blocks_are_joined_by_union_all_and_statements_are_not() -> None:
    def unions(name: str) -> int:
        return len(re.findall("^ *UNION ALL$", queries()[name].bind(PROJECT, SETTINGS, {}).sql, re.MULTILINE))

    assert unions("duplicate_rate") == len(TABLES) - 1
    assert unions("keep_history") == 0


def test_no_query_of_monitoring_names_an_event_table_itself() -> None:
    for query in queries().values():
        if query.subject == "monitoring":
            assert not [table for table in TABLES if re.search(rf"\b{table}\b", query.template)], query.name
