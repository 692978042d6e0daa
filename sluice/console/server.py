"""The server of the console: `python -m sluice.console.server --port PORT`, on the loopback interface."""

import argparse
import pathlib
import socket

import uvicorn

from functions.settings import Settings
from sluice.console.app import console_app
from sluice.console.sources import LocalStack, Sources
from sluice.local.data_folder import DataFolder


def serve(sources: Sources, listening: socket.socket) -> None:
    """Serve the console until SIGINT or SIGTERM.

    Args:
        sources: The deployment that it shows.
        listening: The socket.
    """
    # A stream never ends by itself, so the server does not wait for it.
    config = uvicorn.Config(
        console_app(sources), log_level="warning", lifespan="off", timeout_graceful_shutdown=1, server_header=False
    )
    uvicorn.Server(config).run([listening])


def main() -> None:
    """Serve the console of the local stack whose data folder is given: a process of the stack itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data-dir", type=pathlib.Path, required=True)
    parser.add_argument("--topic", required=True)
    arguments = parser.parse_args()
    settings = Settings.from_environment()
    listening = socket.create_server(("127.0.0.1", arguments.port))
    serve(Sources(settings, LocalStack(DataFolder(arguments.data_dir), arguments.topic)), listening)


if __name__ == "__main__":
    main()
