"""The data of the emulator of BigQuery."""

import pathlib

import duckdb
import pytest

from sluice.local.bigquery_server import find_moved_tables, install_extensions


def test_tables_are_found_when_their_folder_was_moved(tmp_path: pathlib.Path) -> None:
    before, now = tmp_path / "before", tmp_path / "now"
    before.mkdir()
    with _attached(before) as connection:
        connection.execute("CREATE TABLE lake.orders AS SELECT 1 AS n")
    before.rename(now)
    with pytest.raises(duckdb.Error, match="does not match existing data path"):
        _attached(now)
    find_moved_tables(now)
    with _attached(now) as connection:
        assert connection.execute("SELECT n FROM lake.orders").fetchall() == [(1,)]


def _attached(folder: pathlib.Path) -> duckdb.DuckDBPyConnection:
    install_extensions(folder)
    connection = duckdb.connect(config={"extension_directory": str(folder / ".duckdb" / "extensions")})
    path = folder / "lake"
    connection.execute(f"ATTACH 'ducklake:{path}.ducklake' AS lake (DATA_PATH '{path}/', DATA_INLINING_ROW_LIMIT 0)")
    return connection
