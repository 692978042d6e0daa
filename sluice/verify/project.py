"""A deployment in a real project, as Google Cloud's own APIs describe it."""

import functools
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import google.auth
import requests
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from functions.settings import NO_PROJECT, InvalidSettings, Settings
from sluice.quota_project import with_quota_project

FUNCTIONS = ("ingest", "bootstrap", "reconcile")
"""Functions of every deployment. The name of each service ends with one of them, by Terraform and by gcloud."""

DRAIN = "drain"
"""The function of batch mode."""

COMPACT = "compact"
"""The function that compacts the archive, which not every deployment has."""

type Engine = Literal["functions", "batch", "dataflow"]
"""The engine that receives the events from Pub/Sub: `ingest` by a push, `drain`, or a Dataflow job."""

_GOOGLE = "https://{api}.googleapis.com"
_TIMEOUT = 30.0
_ACTIVE = frozenset({"JOB_STATE_RUNNING", "JOB_STATE_PENDING", "JOB_STATE_QUEUED", "JOB_STATE_DRAINING"})
"""States of jobs that receive events, start, or still write events."""
_RETRIES = Retry(4, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None)


class Failed(Exception):
    """Raised when the deployment is wrong; the message has the observed and the expected state."""


class NotThere(Exception):
    """Raised when the deployment does not have the subject of a check; the message names it."""


class Unknown(Exception):
    """Raised when an API rejects a request or does not answer; the message names it and the reason."""


class Project:
    """A deployment as Google Cloud's own APIs describe it; each listing is read once.

    Args:
        session: Sends requests with credentials.
        settings: Name the project, the location, the dataset and the archive of the deployment.
        project: The project's id.
        address: The address of an API, with `{api}` in it.
    """

    def __init__(self, session: requests.Session, settings: Settings, project: str, address: str = _GOOGLE) -> None:
        session.mount("https://", HTTPAdapter(max_retries=_RETRIES))
        self._session = session
        self._address = address
        self.settings = settings
        self.id = project
        self.path = f"projects/{project}"
        self.place = f"{self.path}/locations/{settings.location}"

    @classmethod
    def with_default_credentials(cls, settings: Settings) -> "Project":
        """Return the deployment that the settings name, seen with Application Default Credentials.

        Raises:
            InvalidSettings: The environment is that of the local stack, which has none of these APIs; or no project is
                set, and the credentials name none.
            google.auth.exceptions.DefaultCredentialsError: There are no credentials.
        """
        if "BIGQUERY_EMULATOR_HOST" in os.environ:
            raise InvalidSettings(
                "environment: BIGQUERY_EMULATOR_HOST is set, but the local stack cannot be verified: run `sluice smoke`"
            )
        credentials, own = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
        project = settings.google_cloud_project or own
        if project is None:
            raise InvalidSettings(NO_PROJECT)
        return cls(AuthorizedSession(with_quota_project(credentials, project)), settings, project)  # type: ignore[no-untyped-call]

    def get(self, api: str, path: str, **parameters: str) -> dict[str, Any]:
        """Return the answer of an API to a GET request.

        Raises:
            Unknown: The status of the answer is not 2xx.
        """
        return self._answer(api, "GET", path, parameters=parameters)

    def post(self, api: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer of an API to a POST request that changes nothing.

        Raises:
            Unknown: The status of the answer is not 2xx.
        """
        return self._answer(api, "POST", path, body=body)

    def all(self, api: str, path: str, key: str, **parameters: str) -> list[dict[str, Any]]:
        """Return all entries of a listing, from all its pages.

        Raises:
            Unknown: The API did not answer with 2xx.
        """
        entries: list[dict[str, Any]] = []
        while True:
            page = self.get(api, path, **parameters)
            entries += page.get(key, ())
            if not (token := page.get("nextPageToken")):
                return entries
            parameters["pageToken"] = token

    def lines(self, log_filter: str, since: timedelta, most: int = 1) -> list[dict[str, Any]]:
        """Return the newest log entries that a filter matches.

        Raises:
            Unknown: Cloud Logging did not answer with 2xx.
        """
        start = (datetime.now(UTC) - since).isoformat()
        body: dict[str, Any] = {
            "resourceNames": [self.path],
            "filter": f'timestamp>="{start}" AND {log_filter}',
            "orderBy": "timestamp desc",
            "pageSize": most,
        }
        entries: list[dict[str, Any]] = []
        while True:
            page = self.post("logging", "v2/entries:list", body)
            entries += page.get("entries", ())
            if len(entries) >= most or not (token := page.get("nextPageToken")):
                return entries[:most]
            body["pageToken"] = token  # A page may be empty, and not the last one.

    def points(self, series: str, since: timedelta, **aggregation: str) -> list[dict[str, Any]]:
        """Return the values of all time series that a filter of Cloud Monitoring matches.

        Raises:
            Unknown: Cloud Monitoring did not answer with 2xx.
        """
        now = datetime.now(UTC)
        all_series = self.all(
            "monitoring",
            f"v3/{self.path}/timeSeries",
            "timeSeries",
            filter=series,
            **{"interval.startTime": (now - since).isoformat(), "interval.endTime": now.isoformat(), **aggregation},
        )
        return [point for time_series in all_series for point in time_series.get("points", ())]

    def _answer(
        self,
        api: str,
        method: str,
        path: str,
        *,
        parameters: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        url = f"{self._address.format(api=api)}/{path}"
        try:
            response = self._session.request(method, url, params=parameters, json=body, timeout=_TIMEOUT)
        except (requests.RequestException, GoogleAuthError) as error:
            raise Unknown(f"{api}: {error}") from error
        if not response.ok:
            raise Unknown(f"{api} answers {response.status_code}: {_message(response)}")
        answer: dict[str, Any] = response.json()
        return answer

    @functools.cached_property
    def services(self) -> dict[str, dict[str, Any]]:
        """The Cloud Run services of the functions that write to this archive, by the function's name."""
        by_function: dict[str, dict[str, Any]] = {}
        for service in self.all("run", f"v2/{self.place}/services", "services"):
            variables = {
                variable["name"]: variable.get("value")
                for variable in service["template"]["containers"][0].get("env", ())
            }
            name = short_name(service["name"])
            function = next(
                (known_function for known_function in (*FUNCTIONS, DRAIN, COMPACT) if name.endswith(known_function)),
                None,
            )
            if function and variables.get("ARCHIVE_BUCKET") == self.settings.archive_bucket:
                by_function[function] = service
        return by_function

    def service(self, function: str) -> dict[str, Any]:
        """Return the Cloud Run service of a function.

        Raises:
            Failed: It does not exist.
        """
        if function not in self.services:
            raise Failed(
                f"{self.place} has no service with a name that ends with {function} and whose ARCHIVE_BUCKET is"
                f" {self.settings.archive_bucket}"
            )
        return self.services[function]

    @functools.cached_property
    def subscription(self) -> dict[str, Any]:
        """The subscription of the events: one that pushes to ingest, or that of its name, which is pulled.

        Raises:
            Failed: It does not exist.
        """
        endpoints = addresses(self.service("ingest"))
        subscriptions = self.all("pubsub", f"v1/{self.path}/subscriptions", "subscriptions")
        for subscription in subscriptions:
            if _address(subscription.get("pushConfig", {}).get("pushEndpoint", "")) in endpoints:
                return subscription
        for subscription in subscriptions:
            if short_name(subscription["name"]) == self.ingest and not subscription.get("pushConfig", {}).get(
                "pushEndpoint"
            ):
                return subscription
        raise Failed(
            f"no subscription pushes to {' or '.join(sorted(endpoints))}, and none without push is {self.ingest}"
        )

    @functools.cached_property
    def engine(self) -> Engine:
        """The engine that takes the events.

        If the subscription does not push, it is `drain`, where it is deployed, or Dataflow, if there is or was a job.

        Raises:
            Failed: There is no subscription.
        """
        if self.subscription.get("pushConfig", {}).get("pushEndpoint"):
            return "functions"
        if DRAIN in self.services:
            return "batch"
        return "dataflow" if self.dataflow_jobs() else "functions"

    def pushes(self) -> bool:
        """Return whether the subscription pushes now.

        Raises:
            Failed: There is no subscription.
        """
        subscription = self.get("pubsub", f"v1/{self.subscription['name']}")
        return bool(subscription.get("pushConfig", {}).get("pushEndpoint"))

    def dataflow_jobs(self) -> list[dict[str, Any]]:
        """Return Dataflow's jobs of the deployment, the newest first; they have the name of the function ingest."""
        jobs = self.all(
            "dataflow", f"v1b3/{self.place}/jobs", "jobs", filter="ALL", name=self.ingest, view="JOB_VIEW_SUMMARY"
        )
        own = (job for job in jobs if job["name"] == self.ingest)
        return sorted(own, key=lambda job: str(job["createTime"]), reverse=True)

    @functools.cached_property
    def dataflow_job(self) -> dict[str, Any]:
        """The Dataflow job that runs.

        Raises:
            Failed: No job or several jobs are running.
        """
        jobs = self.dataflow_jobs()
        running = [job for job in jobs if job["currentState"] in _ACTIVE]
        if not running:
            newest = f"the newest is {jobs[0]['currentState']}" if jobs else "there is none"
            raise Failed(f"no Dataflow job {self.ingest} runs; {newest}")
        if len(running) > 1:
            ids = ", ".join(job["id"] for job in running)
            raise Failed(f"{len(running)} Dataflow jobs share the events: {ids}; drain all but one")
        return running[0]

    def job(self, function: str) -> dict[str, Any]:
        """Return the Cloud Scheduler job that calls a function.

        Raises:
            Failed: It does not exist.
        """
        endpoints = addresses(self.service(function))
        for job in self.all("cloudscheduler", f"v1/{self.place}/jobs", "jobs"):
            if _address(job.get("httpTarget", {}).get("uri", "")) in endpoints:
                return job
        raise Failed(f"no Cloud Scheduler job of {self.place} calls {function}")

    @property
    def ingest(self) -> str:
        """Name of the function, and by Terraform of the subscription and of Dataflow's job, too."""
        return short_name(self.service("ingest")["name"])

    @property
    def name(self) -> str:
        """The prefix of the deployment's names: `sluice-prod` for `sluice-prod-ingest`, empty without Terraform."""
        return self.ingest.removesuffix("ingest").removesuffix("-")


def of_job(job: Mapping[str, Any]) -> str:
    """Return the filter of the log entries of a Dataflow job's workers."""
    return f'resource.type="dataflow_step" AND resource.labels.job_id="{job["id"]}"'


def of_service(name: str) -> str:
    """Return the filter of the log entries of a function."""
    return f'resource.type="cloud_run_revision" AND resource.labels.service_name="{name}"'


def addresses(service: Mapping[str, Any]) -> set[str]:
    """Return a service's addresses: it has one by its project's number and one by a hash."""
    return {_address(address) for address in (service["uri"], *service.get("urls", ()))}


def _address(url: str) -> str:
    """Return a URL as it is compared: Eventarc's subscriptions add a query to it."""
    return url.partition("?")[0].rstrip("/")


def short_name(name: str) -> str:
    """Return the last part of a resource's full name."""
    return name.rpartition("/")[2]


def _message(response: requests.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
