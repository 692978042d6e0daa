"""How long the clients keep trying, and after which errors: until a time by which they have surely given up."""

from typing import NamedTuple

import requests
from google.api_core.exceptions import GoogleAPICallError, ServerError, TooManyRequests, from_http_response
from google.api_core.retry import Retry
from google.auth.exceptions import TransportError
from google.cloud.storage.exceptions import InvalidResponse
from requests.exceptions import ChunkedEncodingError

_REASONS = {"rateLimitExceeded", "userRateLimitExceeded"}
"""Of a 403 that passes; every other one is a matter of permissions or quotas."""

_REQUEST_TIMEOUT = 408

_PASSING = (
    ServerError,
    TooManyRequests,
    TransportError,
    ConnectionError,
    requests.ConnectionError,
    requests.Timeout,
    ChunkedEncodingError,
)


def is_passing(error: Exception) -> bool:
    """Whether another try may succeed, of BigQuery and of Cloud Storage: as the clients' own policies, and more.

    The client of BigQuery does not try again after 504, that of Cloud Storage not after a 403 for too many requests.
    """
    if isinstance(error, InvalidResponse):  # what an upload raises, while it is tried
        error = from_http_response(error.response)  # type: ignore[no-untyped-call]
    if isinstance(error, GoogleAPICallError) and not isinstance(error, _PASSING):
        return error.code == _REQUEST_TIMEOUT or any(one.get("reason") in _REASONS for one in error.errors)
    return isinstance(error, _PASSING)


PASSING = Retry(predicate=is_passing)


class Attempts(NamedTuple):
    """Arguments of a client's call.

    Attributes:
        retry: Tries again, with exponential backoff from 0.1 to 5 s.
        timeout: Seconds for one try.
    """

    retry: Retry
    timeout: float


def within(seconds: float, retry: Retry) -> Attempts:
    """Fit all tries into a time: new ones start during two thirds of it, and each takes a third at most.

    Args:
        seconds: The time for all tries.
        retry: The policy of what is worth another try.
    """
    return Attempts(
        retry.with_delay(initial=0.1, maximum=5.0, multiplier=2.0).with_timeout(seconds * 2 / 3), seconds / 3
    )
