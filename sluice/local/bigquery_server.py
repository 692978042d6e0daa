"""The BigQuery emulator (`local-bigquery`): fixed by `bigquery_fixes`, and made faster by the other modules.

Run as `python -m sluice.local.bigquery_server`, in a process of its own: it moves HOME.
"""

import argparse
import functools
import importlib.util
import os
import pathlib
import sys

import duckdb
from local_bigquery import cli
from local_bigquery.app import app
from local_bigquery.catalog import row_access
from local_bigquery.engine import database
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from sluice.local import bigquery_catalog, bigquery_fixes, bigquery_inserts, bigquery_records

_EXTENSIONS = ("ducklake", "icu", "spatial")


def use_one_thread() -> None:
    """Run each statement in one thread.

    Handing work to a second thread takes longer than most of the statements, and there are several at a time anyway.
    """
    uncached = database._connect.__wrapped__

    @functools.cache
    def connect() -> duckdb.DuckDBPyConnection:
        connection: duckdb.DuckDBPyConnection = uncached()
        connection.execute("SET threads = 1")
        return connection

    database._connect = connect


class IdentifyCaller:
    """Lets the emulator know who sent a request; its own way doubles the time that its framework takes for it.

    Args:
        app: The emulator.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        authorization = dict(scope.get("headers", ())).get(b"authorization")
        token = row_access.caller.set(row_access.identify(authorization.decode("latin-1") if authorization else None))
        try:
            await self._app(scope, receive, send)
        finally:
            row_access.caller.reset(token)


def install_extensions(home: pathlib.Path) -> None:
    """Put DuckDB's extensions, which come from wheels, where a DuckDB with this HOME looks for them."""
    version = f"v{duckdb.__version__}"
    platform = duckdb.sql("PRAGMA platform").fetchall()[0][0]
    target = home / ".duckdb" / "extensions" / version / platform
    target.mkdir(parents=True, exist_ok=True)
    for name in _EXTENSIONS:
        spec = importlib.util.find_spec(f"duckdb_extension_{name}")
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"duckdb-extension-{name} is not installed")
        file = pathlib.Path(spec.origin).parent / "extensions" / version / f"{name}.duckdb_extension"
        (target / file.name).unlink(missing_ok=True)
        (target / file.name).symlink_to(file)


def find_moved_tables(data: pathlib.Path) -> None:
    """Let the emulator open tables whose folder was moved: DuckLake keeps their path, and rejects another one.

    Args:
        data: The folder, by its absolute path.
    """
    for catalog in data.glob("*.ducklake"):
        tables = f"{catalog.with_suffix('')}/"
        with duckdb.connect(catalog) as connection:
            update = "UPDATE ducklake_metadata SET value = $1 WHERE key = 'data_path' AND value != $1"
            connection.execute(update, [tables])


def install() -> None:
    """Fix the emulator in this process, and make it faster: inserts in groups, and an own catalog and records."""
    bigquery_fixes.install()
    use_one_thread()
    app.user_middleware[:] = [
        Middleware(IdentifyCaller) if middleware.cls is BaseHTTPMiddleware else middleware
        for middleware in app.user_middleware
    ]
    bigquery_catalog.install()
    bigquery_records.install()
    bigquery_inserts.install()
    sys.modules.setdefault("pandas", None)  # type: ignore[arg-type] # DuckDB looks for it at each parameter of a query


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="of the REST API")
    parser.add_argument("--grpc-port", type=int, required=True, help="of the Storage APIs")
    parser.add_argument("--project", required=True, help="default project")
    parser.add_argument("--data-dir", type=pathlib.Path, required=True, help="where the tables are kept")
    arguments = parser.parse_args()
    arguments.data_dir.mkdir(parents=True, exist_ok=True)
    os.environ["HOME"] = str(arguments.data_dir)
    install_extensions(arguments.data_dir)
    find_moved_tables(arguments.data_dir)
    install()
    ports = ["--port", str(arguments.port), "--grpc-port", str(arguments.grpc_port)]
    data = ["--project", arguments.project, "--data-dir", str(arguments.data_dir)]
    cli.main(["--host", "127.0.0.1", *ports, *data, "serve"])


if __name__ == "__main__":
    main()
