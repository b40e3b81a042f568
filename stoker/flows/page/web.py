"""The web application of a store: pages and API. Read-only, and for who knows the owner's token."""

import hashlib
from collections.abc import Callable, Iterable

from fastapi import Depends, FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Scope

from stoker.flows.page.pictures import ImageRenderer
from stoker.flows.page.security import HEADERS, HEALTH, LOGIN, LOGIN_POLICY, LOOPBACK, SIGNED_IN, RequestGuard
from stoker.flows.page.site import HtmlPages, Schedules
from stoker.flows.page.studies import StudyPages
from stoker.flows.page.template import PAGES, Templates
from stoker.flows.page.trainings import RunPages
from stoker.flows.page.webapi import JsonApi, failure
from stoker.flows.report.format import visible
from stoker.flows.report.samples import SampleReader
from stoker.pipelines.errors import RecipeError, SourceUnavailable
from stoker.release import __version__
from stoker.storage.errors import AlreadyExists, NotFound, StokerError, StorageUnavailable
from stoker.storage.stores.store import Store

_READ = ["GET", "HEAD"]
_ASSETS = {
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "login.js": "text/javascript; charset=utf-8",
}
_HEADINGS = {
    404: "Not here",
    421: "Another name",
    422: "That address cannot be right",
    503: "The store is busy or out of reach",
}


def make_app(
    store: Store | Callable[[], Store],
    *,
    token: str,
    title: str = "Stoker",
    hosts: Iterable[str] = LOOPBACK,
    schedules: Schedules | None = None,
) -> FastAPI:
    """The web application for a store.

    Args:
        store: the store, or a function that opens it at the first request.
        token: what a request must hold, at least 20 ASCII characters; see ``stoker.flows.page.security``.
        title: shown in the head of every page.
        hosts: the names in the Host header that are accepted.
        schedules: what is scheduled and what failed last, asked for each time; None: the page says nothing of it.
    """
    reader = SampleReader(store)
    templates = Templates(title=title, style_mark=_mark("style.css"), login_mark=_mark("login.js"))
    pages = HtmlPages(reader, ImageRenderer(reader), templates, schedules)
    app = FastAPI(title=title, version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    app.add_middleware(RequestGuard, token=token, hosts=frozenset(hosts), refuse=_refuse_with(templates))
    _add_login(app, templates)
    runs = RunPages(reader, pages)
    studies = StudyPages(reader, pages)
    _add_pages(app, pages, runs, studies)
    _add_api(app, JsonApi(reader, pages, runs, studies))
    _add_errors(app, pages)
    return app


def _add_login(app: FastAPI, templates: Templates) -> None:
    """The page that `stoker open` leads to: a static one whose script signs the browser in."""
    page = templates.render("login.html", store_url="", script=True)
    headers = {"cache-control": "no-store", "content-security-policy": LOGIN_POLICY}
    handlers: dict[str, Callable[..., Response]] = {
        LOGIN: lambda: HTMLResponse(page, headers=headers),
        SIGNED_IN: lambda: Response(status_code=204, headers={"cache-control": "no-store"}),
    }
    for path, handler in handlers.items():
        app.add_api_route(path, handler, methods=_READ, include_in_schema=False, response_model=None)


def _refuse_with(templates: Templates) -> Callable[[Scope, int, str], Response]:
    """What makes the response to a request that may not pass: JSON for the API, a page or a line for the rest."""
    page = templates.render("login.html", store_url="", script=False)

    def refuse(scope: Scope, status: int, text: str) -> Response:
        if scope["path"].startswith("/api/"):
            return failure(text.strip(), status)
        if status == 401 and "text/html" in Headers(scope=scope).get("accept", ""):
            return HTMLResponse(page, status)
        return PlainTextResponse(f"{text.strip()}\n", status)

    return refuse


def _add_pages(app: FastAPI, pages: HtmlPages, runs: RunPages, studies: StudyPages) -> None:
    handlers: dict[str, Callable[..., Response]] = {
        "/": pages.corpora,
        "/c/{reference}": pages.corpus,
        "/c/{reference}/sample/{key:path}": pages.sample,
        "/c/{reference}/rejects": pages.rejects,
        "/c/{reference}/why": pages.why,
        "/c/{reference}/thumb/{key:path}": pages.thumb,
        "/c/{reference}/picture/{key:path}": pages.picture,
        "/c/{reference}/raw/{part}/{key}": pages.raw,
        "/c/{reference}/study": studies.study,
        "/c/{corpus}/runs": runs.runs,
        "/c/{corpus}/runs/{run}": runs.run,
        "/c/{corpus}/diff": pages.diff_form,
        "/c/{corpus}/diff/{a}/{b}": pages.diff,
        "/static/{name}": _asset,
        "/favicon.ico": _icon,
        HEALTH: _health,
    }
    for path, handler in handlers.items():
        known = [] if path.startswith("/static/") else [Depends(_check_parameters)]
        app.add_api_route(
            path, handler, methods=_READ, include_in_schema=False, response_model=None, dependencies=known
        )


def _check_parameters(request: Request) -> None:
    """Refuse a parameter that the page does not have: a filter that is misspelt would show everything."""
    route = request.scope["route"]
    known = [parameter.alias for parameter in route.dependant.query_params]
    for name in request.query_params:
        if name not in known:
            what = f"it takes {', '.join(known)}" if known else "it takes none"
            raise HTTPException(422, f"this page has no parameter or filter {visible(name, most=60)!r}; {what}")


def _add_api(app: FastAPI, api: JsonApi) -> None:
    handlers: dict[str, Callable[..., Response]] = {
        "/api/corpora": api.corpora,
        "/api/schedules": api.schedules,
        "/api/c/{reference}": api.report,
        "/api/c/{corpus}/versions": api.versions,
        "/api/c/{reference}/samples": api.samples,
        "/api/c/{reference}/sample/{key:path}": api.sample,
        "/api/c/{reference}/rejects": api.rejects,
        "/api/c/{reference}/why": api.why,
        "/api/c/{reference}/study": api.study,
        "/api/c/{corpus}/runs": api.runs,
        "/api/c/{corpus}/runs/{run}": api.run,
        "/api/c/{corpus}/diff/{a}/{b}": api.diff,
    }
    # For the schema alone: RequestGuard has checked the token already.
    bearer = [
        Security(HTTPBearer(auto_error=False, description="the owner's token, from the file `token` in the home"))
    ]
    for path, handler in handlers.items():
        known = Depends(_check_parameters)
        app.add_api_route(path, handler, methods=["GET"], response_model=None, dependencies=[*bearer, known])
        app.add_api_route(
            path, handler, methods=["HEAD"], response_model=None, include_in_schema=False, dependencies=[known]
        )


def _mark(name: str) -> str:
    """A mark of a file's content, for its address: a browser that cached an older one asks again."""
    return hashlib.sha256((PAGES / name).read_bytes()).hexdigest()[:10]


def _asset(name: str) -> Response:
    if name not in _ASSETS:
        raise HTTPException(404, "no such file")
    return Response(
        (PAGES / name).read_bytes(), media_type=_ASSETS[name], headers={"cache-control": "private, max-age=3600"}
    )


def _icon() -> Response:
    return _asset("icon.svg")


def _health() -> Response:
    return PlainTextResponse("ok\n", headers={"cache-control": "no-store"})


def status_of(error: StokerError) -> int:
    """The HTTP status of an error."""
    for kind, status in (
        (NotFound, 404),
        (AlreadyExists, 409),
        (RecipeError, 422),
        (StorageUnavailable, 503),
        (SourceUnavailable, 503),
    ):
        if isinstance(error, kind):
            return status
    return 500


def _add_errors(app: FastAPI, pages: HtmlPages) -> None:
    def respond(request: Request, status: int, message: str) -> Response:
        if request.url.path.startswith("/api/"):
            response = failure(message, status)
        else:
            heading = _HEADINGS.get(status, "That did not work")
            response = pages.page("error.html", status_code=status, status=status, heading=heading, message=message)
        if status == 503:
            response.headers["retry-after"] = "5"
        return response

    def handle_error(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            message = "no such page" if error.status_code == 404 else visible(error.detail)
            return respond(request, error.status_code, message)
        if isinstance(error, RequestValidationError):
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"][1:])
            return respond(request, 422, f"{visible(where, most=60)}: {first['msg']}")
        if isinstance(error, StokerError):
            return respond(request, status_of(error), str(error))
        return handle_bug(request, error)

    def handle_bug(request: Request, error: Exception) -> Response:
        # Starlette responds to a bug outside of RequestGuard, and raises it again afterwards, so the server logs it.
        response = respond(request, 500, "an error inside Stoker; its traceback is in the log of `stoker up`")
        response.headers.update(HEADERS)
        return response

    for kind in (HTTPException, RequestValidationError, StokerError):
        app.add_exception_handler(kind, handle_error)
    app.add_exception_handler(Exception, handle_bug)
