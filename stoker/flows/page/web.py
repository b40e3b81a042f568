"""The web page of a store: what was made from what, what was refused and why. Read-only, for loopback."""

import hashlib
from collections.abc import Callable, Iterable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from starlette.exceptions import HTTPException

from stoker import __version__
from stoker.flows.page.pictures import ImageRenderer
from stoker.flows.page.security import HEADERS, LOOPBACK, RequestGuard
from stoker.flows.page.site import HtmlPages
from stoker.flows.page.template import PAGES, Templates
from stoker.flows.page.webapi import JsonApi, failure
from stoker.flows.report.format import visible
from stoker.flows.report.samples import SampleReader
from stoker.pipelines.errors import RecipeError, SourceUnavailable
from stoker.storage.errors import AlreadyExists, NotFound, StokerError, StorageUnavailable
from stoker.storage.stores.store import Store

_READ = ["GET", "HEAD"]
_ASSETS = {"style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}
_HEADINGS = {
    404: "Not here",
    421: "Another name",
    422: "That address cannot be right",
    503: "The store is busy or out of reach",
}


def make_app(store: Store | Callable[[], Store], *, title: str = "Stoker", hosts: Iterable[str] = LOOPBACK) -> FastAPI:
    """The application for a store, or for what opens it when the first page is asked for.

    Bind it to loopback: it asks nobody who they are. ``hosts``: the names in the Host header that it answers to.
    """
    reader = SampleReader(store)
    style = hashlib.sha256((PAGES / "style.css").read_bytes()).hexdigest()[:10]
    site = HtmlPages(reader, ImageRenderer(reader), Templates(title=title, style_mark=style))
    app = FastAPI(title=title, version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    app.add_middleware(RequestGuard, hosts=frozenset(hosts))
    _add_pages(app, site)
    _add_api(app, JsonApi(reader, site))
    _add_errors(app, site)
    return app


def _add_pages(app: FastAPI, site: HtmlPages) -> None:
    pages: dict[str, Callable[..., Response]] = {
        "/": site.corpora,
        "/c/{reference}": site.corpus,
        "/c/{reference}/sample/{key:path}": site.sample,
        "/c/{reference}/rejects": site.rejects,
        "/c/{reference}/why": site.why,
        "/c/{reference}/thumb/{key:path}": site.thumb,
        "/c/{reference}/picture/{key:path}": site.picture,
        "/c/{reference}/raw/{part}/{key}": site.raw,
        "/c/{corpus}/diff": site.diff_form,
        "/c/{corpus}/diff/{a}/{b}": site.diff,
        "/static/{name}": _asset,
        "/favicon.ico": _icon,
        "/healthz": _health,
    }
    for path, page in pages.items():
        app.add_api_route(path, page, methods=_READ, include_in_schema=False, response_model=None)


def _add_api(app: FastAPI, api: JsonApi) -> None:
    answers: dict[str, Callable[..., Response]] = {
        "/api/corpora": api.corpora,
        "/api/c/{reference}": api.report,
        "/api/c/{corpus}/versions": api.versions,
        "/api/c/{reference}/samples": api.samples,
        "/api/c/{reference}/sample/{key:path}": api.sample,
        "/api/c/{reference}/rejects": api.rejects,
        "/api/c/{reference}/why": api.why,
        "/api/c/{corpus}/diff/{a}/{b}": api.diff,
    }
    for path, one in answers.items():
        app.add_api_route(path, one, methods=["GET"], response_model=None)
        app.add_api_route(path, one, methods=["HEAD"], response_model=None, include_in_schema=False)


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
    """The HTTP status of an error (DESIGN, section 6)."""
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


def _add_errors(app: FastAPI, site: HtmlPages) -> None:
    def shown(request: Request, status: int, message: str) -> Response:
        if request.url.path.startswith("/api/"):
            response = failure(message, status)
        else:
            heading = _HEADINGS.get(status, "That did not work")
            response = site.page("error.html", status_code=status, status=status, heading=heading, message=message)
        if status == 503:
            response.headers["retry-after"] = "5"
        return response

    def refused(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            message = "no such page" if error.status_code == 404 else visible(error.detail)
            return shown(request, error.status_code, message)
        if isinstance(error, RequestValidationError):
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"][1:])
            return shown(request, 422, f"{visible(where, most=60)}: {first['msg']}")
        if isinstance(error, StokerError):
            return shown(request, status_of(error), str(error))
        return bug(request, error)

    def bug(request: Request, error: Exception) -> Response:
        # Starlette answers for a bug outside of the guard, and raises it again behind us: the server logs it.
        response = shown(request, 500, "an error inside Stoker; its traceback is in the log of `stoker up`")
        response.headers.update(HEADERS)
        return response

    for kind in (HTTPException, RequestValidationError, StokerError):
        app.add_exception_handler(kind, refused)
    app.add_exception_handler(Exception, bug)
