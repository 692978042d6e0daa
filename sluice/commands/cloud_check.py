"""The check that Google Cloud answers, before a command starts: its clients retry for many minutes."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import google.auth
import requests
from google.auth.exceptions import TransportError
from google.auth.transport.requests import Request

from functions.settings import NO_PROJECT, InvalidSettings

if TYPE_CHECKING:
    from functions.settings import Settings

_SECONDS = 10.0
"""Maximum seconds of the check."""

_REQUEST_SECONDS = 4.0
"""Maximum seconds of a request to connect, and then to answer."""

_PAUSE = 1.0
"""Seconds between two attempts."""

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


class NoAnswer(Exception):
    """A host of Google Cloud did not answer in time; names it."""


class _Check:
    def __init__(self, settings: Settings, services: Sequence[str]) -> None:
        self._settings = settings
        universe = os.environ.get("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "googleapis.com")
        self._hosts = [f"{service}.{universe}" for service in services]
        self.host = "the metadata server"
        self.result: Future[None] = Future()

    def __call__(self) -> None:
        try:
            self._run()
            self.result.set_result(None)
        except BaseException as error:  # The command raises it.
            self.result.set_exception(error)

    def _run(self) -> None:
        credentials, project = google.auth.default(_SCOPES)
        if not (project or self._settings.google_cloud_project):
            raise InvalidSettings(NO_PROJECT)
        begun = time.monotonic()
        while True:
            try:
                self.host = urlsplit(str(getattr(credentials, "token_uri", None) or "")).netloc or self.host
                credentials.refresh(functools.partial(Request(), timeout=_REQUEST_SECONDS))  # type: ignore[no-untyped-call]
                for self.host in self._hosts:  # noqa: B020 - where it stands when the time is over
                    requests.head(f"https://{self.host}/", timeout=_REQUEST_SECONDS)
            except (requests.RequestException, TransportError):
                if time.monotonic() - begun > _REQUEST_SECONDS:
                    raise
                time.sleep(_PAUSE)
            else:
                return


def check_cloud(settings: Settings, services: Sequence[str]) -> None:
    """Check that there are credentials and a project, and that services answer, with whatever.

    Args:
        settings: The settings.
        services: Names of services: `bigquery`, `storage`.

    Raises:
        InvalidSettings: Neither the settings nor the credentials have a project.
        NoAnswer: A host did not answer in time.
        google.auth.exceptions.GoogleAuthError: There are no credentials, or the host of the tokens did not answer.
        requests.RequestException: A host did not answer.
    """
    os.environ.setdefault("GCE_METADATA_DETECT_RETRIES", "1")  # Each attempt takes three seconds.
    check = _Check(settings, services)
    threading.Thread(target=check, daemon=True).start()  # The resolver of names has timeouts of its own.
    try:
        check.result.result(_SECONDS)
    except TimeoutError:
        if check.result.done():
            raise
        raise NoAnswer(f"{check.host} did not answer within {_SECONDS:.0f} s") from None
