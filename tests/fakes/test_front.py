"""The fixed ports of the local stack's functions."""

import httpx
import pytest

from fake_google import http_server
from fake_google.http_server import response, serving
from sluice.local.front import Front, Impairment
from sluice.local.process import free_port
from sluice.local.stack import Ports
from tests.support.waiting import wait_until


def version(text: bytes) -> http_server.Handler:
    return lambda _, connection: connection.answer(response(text))


def test_requests_go_to_the_version_that_serves_now() -> None:
    port = free_port()
    front = Front([port])
    with serving(version(b"old")) as old, serving(version(b"new")) as new, front.listening():
        url = f"http://127.0.0.1:{port}"
        with pytest.raises(httpx.TransportError):  # None serves yet.
            httpx.get(url)
        front.switch(port, int(old.rpartition(":")[2]))
        assert httpx.get(url).content == b"old"
        front.switch(port, int(new.rpartition(":")[2]))
        assert httpx.get(url).content == b"new"
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_a_port_that_is_taken_is_replaced() -> None:
    port = free_port()
    with Front([port]).listening():
        ports = Ports.from_first(port)
    assert port not in ports
    assert len(set(ports)) == len(ports)


def test_connections_can_be_closed_and_delayed() -> None:
    impairments = [Impairment()]
    port = free_port()
    front = Front([port])
    with (
        serving(version(b"served")) as served,
        front.listening(),
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        front.switch(port, int(served.rpartition(":")[2]))
        front.every(0.01, lambda: front.impair(port, impairments[-1]))
        assert client.get("/").content == b"served"
        impairments.append(Impairment(is_down=True))
        wait_until(lambda: not serves(client), "open and new connections are closed")
        impairments.append(Impairment(delay=0.5))
        wait_until(lambda: serves(client), "it serves again")
        assert client.get("/").elapsed.total_seconds() >= 0.5


def serves(client: httpx.Client) -> bool:
    try:
        return client.get("/").is_success
    except httpx.TransportError:
        return False
