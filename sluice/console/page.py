"""Pages and actions of the console: a function that returns what a page shows, and the template that shows it.

A page has two addresses: `/live` is HTML, `/live.json` is the value of the same function.
"""

import dataclasses
import functools
import http
import pathlib
import typing
import urllib.parse
from collections.abc import Callable, Iterable, Set
from datetime import UTC, datetime
from typing import Any

import msgspec
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from requests import RequestException
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from sluice.commands.error_messages import message
from sluice.console.charts import cell, chart_of, size
from sluice.console.markdown import address, rendered, rendered_inline
from sluice.console.security import CLIENT_HEADER, csrf_token, is_own
from sluice.console.sources import Sources
from sluice.local.faults import read_faults

FOLDER = pathlib.Path(__file__).parent

_JSON = "application/json"
_ENCODER = msgspec.json.Encoder(decimal_format="number")
_FORM = "application/x-www-form-urlencoded"
FAILURES = (GoogleAPIError, GoogleAuthError, OSError, RequestException)
"""Errors of a service that does not answer or rejects a request."""


class WrongInput(ValueError):
    """Raised when an address or a form has a wrong value.

    Args:
        problem: Names the value and says what is allowed.
        view: What the page shows all the same, such as the form; None for only the problem.
    """

    def __init__(self, problem: str, view: msgspec.Struct | None = None) -> None:
        super().__init__(problem)
        self.view = view


class ServiceFailed(RuntimeError):
    """Raised when a service has rejected a request or did not answer, and the page can still show something.

    Args:
        problem: What has failed.
        view: What the page shows all the same.
    """

    def __init__(self, problem: str, view: msgspec.Struct) -> None:
        super().__init__(problem)
        self.view = view


class NotThere(LookupError):
    """Raised when an address names something that does not exist; the message says what."""


class NoParameters(msgspec.Struct, frozen=True):
    """Parameters of a page that has none."""


@dataclasses.dataclass(frozen=True)
class Page[P: msgspec.Struct]:
    """A page.

    Attributes:
        path: Its path; `.json` is appended for the JSON.
        template: Name of its template.
        parameters: Type of the parameters of its address.
        read: Returns what the page shows: a struct.
    """

    path: str
    template: str
    parameters: type[P]
    read: Callable[[Sources, P], msgspec.Struct]

    def routes(self, sources: Sources) -> list[Route]:
        """Return the routes of both addresses."""
        html = functools.partial(self._respond, sources, as_json=False)
        return [Route(self.path, html, name=self.path), self.json_route(sources, f"{self.path}.json")]

    def json_route(self, sources: Sources, path: str) -> Route:
        """Return a route of its JSON."""
        return Route(path, functools.partial(self._respond, sources, as_json=True))

    async def _respond(self, sources: Sources, request: Request, *, as_json: bool) -> Response:
        async def result() -> msgspec.Struct:
            parameters = parse(request.query_params.multi_items(), self.parameters)
            return await run_in_threadpool(self.read, sources, parameters)

        return await respond(request, sources, self.template, result, as_json=as_json)


@dataclasses.dataclass(frozen=True)
class Action[P: msgspec.Struct]:
    """A button or a form, which changes the local stack.

    A form is answered with HTML: the template, or where there is none another page. JSON is answered with JSON.

    Attributes:
        path: Its path.
        parameters: Type of the fields of its form, or of its JSON.
        run: Does it, and returns what has happened: a struct.
        template: Name of the template of the answer to a form; None to go to another page.
        then: Path of that page; None for the page of the form.
        method: HTTP method.
        needs_token: Whether it changes something, so that other sites must not be able to send it.
    """

    path: str
    parameters: type[P]
    run: Callable[[Sources, P], msgspec.Struct]
    template: str | None = None
    then: str | None = None
    method: str = "POST"
    needs_token: bool = True

    def routes(self, sources: Sources) -> list[Route]:
        """Return its route."""
        return [Route(self.path, functools.partial(self._respond, sources), methods=[self.method])]

    async def _respond(self, sources: Sources, request: Request) -> Response:
        body = await request.body()
        is_form = request.headers.get("content-type", "").startswith(_FORM)
        fields = urllib.parse.parse_qsl(body.decode(errors="replace")) if is_form else []

        async def result() -> msgspec.Struct:
            if self.needs_token and not is_own(request.headers, dict(fields)):
                raise WrongInput(f"The page is out of date: load it again. A program sends the header {CLIENT_HEADER}.")
            if body and not is_form:
                parameters = decode(body, self.parameters)
            else:
                parameters = parse(fields or request.query_params.multi_items(), self.parameters)
            return await run_in_threadpool(self.run, sources, parameters)

        if is_form and self.template is None:
            answer = await respond(request, sources, "done.html", result, as_json=False)
            page = self.then or request.headers.get("referer", "/")
            return RedirectResponse(page, http.HTTPStatus.SEE_OTHER) if answer.status_code < 400 else answer
        return await respond(request, sources, self.template or "done.html", result, as_json=not is_form)


def parse[P: msgspec.Struct](fields: Iterable[tuple[str, str]], parameters: type[P]) -> P:
    """Read the parameters of an address or the fields of a form. An empty one is the same as a missing one.

    `param.days=7` is the entry `days` of the field `param`, which is a mapping. A field that is a tuple may come
    several times.

    Raises:
        WrongInput: A value has the wrong type or is out of range.
    """
    given: dict[str, Any] = {}
    entries: dict[str, dict[str, str]] = {}
    repeatable = _repeatable(parameters)
    for name, text in fields:
        field, dot, entry = name.partition(".")
        if text == "" or field not in parameters.__struct_fields__:
            continue
        if dot:
            entries.setdefault(field, {})[entry] = text
        elif field in repeatable:
            given.setdefault(field, []).append(text)
        else:
            given[field] = text
    given |= entries
    try:
        return msgspec.convert(given, parameters, strict=False)
    except msgspec.ValidationError as error:
        raise WrongInput(str(error)) from error


@functools.cache
def _repeatable(parameters: type[msgspec.Struct]) -> Set[str]:
    """Return the names of the fields that are tuples."""
    types = typing.get_type_hints(parameters)
    return {name for name in parameters.__struct_fields__ if typing.get_origin(types[name]) is tuple}


def decode[P: msgspec.Struct](body: bytes, parameters: type[P]) -> P:
    """Read the JSON of a request.

    Raises:
        WrongInput: It is no JSON, or a value has the wrong type or is out of range.
    """
    try:
        return msgspec.json.decode(body, type=parameters)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WrongInput(str(error)) from error


class Problem(msgspec.Struct, frozen=True):
    """An error, as a page or JSON.

    Attributes:
        error: What is wrong and what to do.
    """

    error: str


async def respond(
    request: Request,
    sources: Sources,
    template: str,
    result: Callable[[], Any],
    *,
    as_json: bool,
) -> Response:
    """Answer with a result, or with the error that prevents it."""
    status = http.HTTPStatus.OK
    view: msgspec.Struct | None = None
    try:
        view = model = await result()
    except WrongInput as error:
        status, model, view = http.HTTPStatus.BAD_REQUEST, Problem(str(error)), error.view
    except ServiceFailed as error:
        status, model, view = http.HTTPStatus.BAD_GATEWAY, Problem(str(error)), error.view
    except NotThere as error:
        status, model = http.HTTPStatus.NOT_FOUND, Problem(str(error))
    except FAILURES as error:
        status, model = http.HTTPStatus.BAD_GATEWAY, Problem(message(error))
    if as_json:
        return Response(_ENCODER.encode(model), status, media_type=_JSON)
    name = "problem.html" if view is None else template
    problem = str(model.error) if isinstance(model, Problem) else None
    return HTMLResponse(html(name, request, sources, model if view is None else view, problem), status)


def html(template: str, request: Request, sources: Sources, model: msgspec.Struct, problem: str | None = None) -> str:
    """Render a page."""
    return (
        _templates()
        .get_template(template)
        .render(
            model=model,
            problem=problem,
            path=request.url.path,
            query=request.url.query,
            # The page of a form has the token of this process when it is loaded again.
            again=str(request.url) if request.method == "GET" else request.headers.get("referer", "/"),
            parameters=dict(request.query_params),
            csrf=csrf_token(),
            is_local=sources.local is not None,
            broken=read_faults(sources.local.data).active if sources.local else (),
            place=f"{sources.bigquery.project}.{sources.settings.dataset}",
        )
    )


@functools.cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals["chart_of"] = chart_of
    templates.filters["cell"] = cell
    templates.filters["size"] = size
    templates.filters["time"] = _time
    templates.filters["number"] = lambda value: "" if value is None else f"{value:,}"
    # Within a script element only `<` ends the JSON, and it may be escaped in every string.
    templates.filters["json"] = lambda value: Markup(  # noqa: S704
        msgspec.json.encode(value).decode().replace("<", "\\u003c")
    )
    templates.filters["markdown"] = rendered_inline
    templates.filters["page"] = rendered
    templates.filters["docs"] = address
    templates.filters["duration"] = _duration
    templates.filters["query"] = lambda values: urllib.parse.urlencode(
        {name: value for name, value in values.items() if value not in (None, "")}, doseq=True
    )
    return templates


def _duration(seconds: int) -> str:
    """Return a duration in its largest unit."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds} s"


def _time(value: datetime | None) -> str:
    """Return a time in UTC, in seconds."""
    return "" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
