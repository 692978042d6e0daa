"""The metered fake of Google's services in a process of its own, on a core of its own."""

import contextlib
import multiprocessing
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import msgspec

from benchmarks.machine import OTHER_CORE, on_core
from fake_google import metered
from fake_google.metered import Counts, EventIds, Reset, Service, Written
from fake_google.service_queue import Capacity, Disturbance
from sluice.local.process import free_port


class StandIn:
    """The running stand-ins, as seen from another process.

    Args:
        url: URL of both APIs.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url)

    def is_up(self) -> bool:
        """Return whether they answer."""
        try:
            return self._client.get("/control").is_success
        except httpx.TransportError:
            return False

    def reset(self, insert_ms: float, upload_ms: float) -> None:
        """Answer so slowly from now on, and count anew."""
        self.limit(Capacity(request_seconds=insert_ms / 1000), Capacity(request_seconds=upload_ms / 1000), False)

    def limit(self, inserts: Capacity, uploads: Capacity, keeps_ids: bool = True) -> None:
        """Serve requests in queues of limited capacity from now on, undisturbed, and count anew.

        Args:
            inserts: Capacity of BigQuery.
            uploads: Capacity of Cloud Storage; a row is an event of the object.
            keeps_ids: Whether the ids of rows and objects are kept.
        """
        self._post("/control", Reset(inserts=inserts, uploads=uploads, keeps_ids=keeps_ids))

    def disturb(self, disturbances: Mapping[Service, Disturbance]) -> None:
        """Disturb services from now on; those that are not named stay as they are."""
        self._post("/control/disturb", disturbances)

    def written(self) -> Written:
        """Return what was written since the last reset."""
        return msgspec.json.decode(self._client.get("/control/written").raise_for_status().content, type=Written)

    def event_ids(self) -> EventIds:
        """Return the ids of what was written since the last reset."""
        return msgspec.json.decode(self._client.get("/control/ids").raise_for_status().content, type=EventIds)

    def _post(self, path: str, body: object) -> None:
        self._client.post(path, content=msgspec.json.encode(body)).raise_for_status()

    def counts(self) -> Counts:
        """Return the counts of what has arrived."""
        return msgspec.convert(self._state()["counts"], Counts)

    def in_flight(self) -> int:
        """Return the calls that wait for their answer."""
        return int(self._state()["in_flight"])

    def _state(self) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.get("/control").raise_for_status().json()
        return answer


@contextlib.contextmanager
def running(core: int = OTHER_CORE) -> Iterator[StandIn]:
    """Serve the stand-ins on a core while the context lasts."""
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=metered.serve, args=(port,), daemon=True)
    with on_core(core):
        process.start()
    try:
        stand_in = StandIn(f"http://127.0.0.1:{port}")
        while not stand_in.is_up() and process.is_alive():
            process.join(0.02)
        yield stand_in
    finally:
        process.terminate()
        process.join()
