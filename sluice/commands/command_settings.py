"""The checks before a command starts: its settings, and the local stack if the environment selects it."""

from __future__ import annotations

import os
import re
import socket
import sys
from urllib.parse import urlsplit

import typer

from functions.settings import InvalidSettings, Settings
from sluice.local import data_folder
from sluice.local.names import EMULATORS, TOPIC, UNDELIVERABLE

_CONNECT_SECONDS = 0.5
"""Maximum seconds to connect to an emulator."""


class NoStack(Exception):
    """Nothing listens where a variable says that an emulator is; names the address and the variable."""


def command_settings(*, archive: bool = True) -> Settings:
    """Read the settings of a command that uses Google Cloud or the local stack.

    Args:
        archive: Whether the command uses the archive. If not, ARCHIVE_BUCKET may be missing.

    Raises:
        InvalidSettings: A setting is missing or wrong; names the variable.
        NoStack: The variable of an emulator is set, but nothing listens there.
    """
    check_stack()
    settings = read_settings(archive=archive)
    _show_place(settings)
    check_services(settings, archive=archive)
    return settings


def check_services(settings: Settings, *, archive: bool) -> None:
    """Check that those services answer that are not emulated; `check_stack` checks the others.

    Raises:
        One of those of `check_cloud`: A service in Google Cloud cannot be used.
    """
    services = [
        service
        for service in ("bigquery", "storage")[: 2 if archive else 1]
        if not os.environ.get(f"{service.upper()}_EMULATOR_HOST")
    ]
    if services:
        from sluice.commands.cloud_check import check_cloud

        check_cloud(settings, services)


def _show_place(settings: Settings) -> None:
    """Show on a terminal where the command works, and whether a local stack runs that it does not use."""
    if not sys.stderr.isatty():
        return
    place = os.environ.get("BIGQUERY_EMULATOR_HOST") or "Google Cloud"
    project = settings.google_cloud_project or "of the credentials"
    text = f"project {project}, dataset {settings.dataset}, {place}{unused_stack()}"
    typer.secho(text, err=True, dim=True)


def unused_stack() -> str:
    """Return a clause that says that a local stack runs but is not used, and why; empty if it is used or none runs."""
    folder = data_folder.find()
    stack = folder.running()
    if stack is None:
        return f"; the stack in {folder.path} is not up yet: try again" if folder.is_locked() else ""
    variable = data_folder.other_selection(stack)
    return f"; the stack in {folder.path} is not used, as {variable} is set" if variable else ""


def read_settings(*, archive: bool = True) -> Settings:
    """Read the settings of a command, as `command_settings` does, without a look at the local stack.

    Raises:
        InvalidSettings: A setting is missing or wrong; names the variable.
    """
    if not archive:
        return Settings.from_environment({**os.environ, "ARCHIVE_BUCKET": "unused"})
    if not os.environ.get("ARCHIVE_BUCKET"):
        text = (
            "ARCHIVE_BUCKET is missing; set it to the bucket of the archive, or start `sluice up` for the local stack"
        )
        raise InvalidSettings(f"environment: {text}{unused_stack()}")
    return Settings.from_environment()


def check_stack() -> None:
    """Check that each emulator whose variable is set accepts connections. A client would retry for minutes.

    Raises:
        InvalidSettings: A variable is not the address of a server.
        NoStack: Nothing listens there.
    """
    for variable in EMULATORS:
        if not (value := os.environ.get(variable)):
            continue
        try:
            address = urlsplit(value if "//" in value else f"//{value}")
            host, port = address.hostname, address.port or (443 if address.scheme == "https" else 80)
        except ValueError:
            host = None
        if host is None:
            raise InvalidSettings(f"environment: {variable} is {value}; it must be HOST:PORT or a URL")
        try:
            socket.create_connection((host, port), _CONNECT_SECONDS).close()
        except OSError as error:
            remedy = f"start `sluice up`, or unset {variable} to use Google Cloud"
            raise NoStack(f"no stack at {host}:{port}: {remedy}{unused_stack()}") from error


def check_topic(topic: str) -> None:
    """Check that a topic is given and has a full name. The default is that of the local stack.

    Raises:
        InvalidSettings: It is not.
    """
    _check_name(topic, "--topic or SLUICE_TOPIC", "projects/PROJECT/topics/TOPIC")


def check_subscription(subscription: str) -> None:
    """Check that a subscription is given and has a full name. The default is that of the local stack.

    Raises:
        InvalidSettings: It is not.
    """
    _check_name(subscription, "--subscription or SLUICE_UNDELIVERABLE", "projects/PROJECT/subscriptions/SUBSCRIPTION")


def _check_name(name: str, source: str, form: str) -> None:
    if name in {TOPIC, UNDELIVERABLE} and not os.environ.get("PUBSUB_EMULATOR_HOST"):
        text = f"{source} is missing; it must be {form}, or start `sluice up` for the local stack{unused_stack()}"
        raise InvalidSettings(text)
    if not re.fullmatch(re.sub("[A-Z]+", "[^/]+", form), name):
        raise InvalidSettings(f"{source} is {name}; it must be {form}")
