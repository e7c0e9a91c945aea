"""The page, and the requests that it makes. Uploads stay in memory; no request names a file of this computer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import PurePath
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.pose.networks import network_threads
from rmpe_legacy.runs.report import style
from rmpe_legacy.wording import pluralize, shorten

from .page import page
from .service import Choice, Service, TooLargeError, View

# Browsers send the name in the address bar: a page of another site whose name was pointed at 127.0.0.1 is refused.
HOSTS = ("127.0.0.1", "localhost")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
                               "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
                               "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class App:
    """The requests, and how many are under way.

    Images are processed one after the other in a thread of their own. A forward cannot be stopped: after a time-out the
    thread finishes it before the next image.
    """

    def __init__(self, service: Service):
        self.service, self.limits = service, service.limits
        self.under_way = 0
        self.thread = network_threads(1, "rmpe-serve")

    def starlette(self) -> Starlette:
        """Return the ASGI application."""
        assets = {"serve.css": "text/css", "serve.js": "text/javascript"}
        texts = {name: (files(__package__).joinpath(name).read_text("utf-8"), kind) for name, kind in assets.items()}
        texts["report.css"] = style(), "text/css"
        weights = {name: pose.files[-1] for name, pose in self.service.poses.items()}
        text = page(self.service.detectors, weights, self.limits.upload, self.service.note)
        return Starlette(
            routes=[Route("/", lambda request: HTMLResponse(text)),
                    *(Route(f"/{name}", _fixed(*each)) for name, each in texts.items()),
                    Route("/view", self.view, methods=["POST"]),
                    Route("/poses.json", self.poses, methods=["POST"])],
            middleware=[Middleware(BaseHTTPMiddleware, dispatch=_add_headers),
                        Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False)],
            exception_handlers={ClientDisconnect: _gone})

    async def view(self, request: Request) -> Response:
        """Return what the page shows of an image."""
        found = await self._find_people(request)
        return JSONResponse({"facts": found.facts, "section": found.section, "poses": found.poses.decode()})

    async def poses(self, request: Request) -> Response:
        """Return poses.json, for scripts."""
        return Response((await self._find_people(request)).poses, media_type="application/json")

    async def _find_people(self, request: Request) -> View:
        _check_origin(request)
        choice, name = _choice(request), _image_name(request)
        if self.under_way >= self.limits.requests:
            raise HTTPException(429, f"{pluralize(self.under_way, 'image')} are being processed or waiting; try again "
                                     "when they are done")
        self.under_way += 1
        try:
            return await self._result(await self._upload(request), name, choice)
        except TooLargeError as error:
            raise HTTPException(413, str(error)) from None
        except RmpeError as error:
            raise HTTPException(400, str(error)) from None
        finally:
            self.under_way -= 1

    async def _upload(self, request: Request) -> bytes:
        """Read the image. Raises HTTPException as soon as it is too long, or takes too long."""
        if _number(request.headers.get("content-length", "0")) > self.limits.upload:
            raise self._too_long()
        try:
            return await asyncio.wait_for(self._body(request), self.limits.seconds)
        except asyncio.TimeoutError:
            raise HTTPException(408, f"the image did not arrive within {self.limits.seconds:g} s") from None

    async def _body(self, request: Request) -> bytes:
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > self.limits.upload:
                raise self._too_long()
        return bytes(data)

    def _too_long(self) -> HTTPException:
        return HTTPException(413, f"the image has more than {self.limits.upload / 1e6:g} MB, the limit of this page; "
                                  "scale it down, or use rmpe demo")

    async def _result(self, data: bytes, name: str, choice: Choice) -> View:
        work = self.thread.submit(self.service.find_people, data, name, choice)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(work), self.limits.seconds)
        except asyncio.TimeoutError:
            raise HTTPException(503, f"{name}: no result within {self.limits.seconds:g} s; choose a higher threshold, "
                                     "or start rmpe serve with a longer --timeout") from None


def _check_origin(request: Request) -> None:
    """Refuse what the page of another site sends."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, "this request comes from a page of another site")


def _choice(request: Request) -> Choice:
    """Read the choice from the address; what is left out has its default."""
    query = request.query_params
    threshold = query.get("threshold", "")
    try:
        score = float(threshold) if threshold else None
    except ValueError:
        score = math.nan
    if score is not None and not 0 <= score < 1:
        raise HTTPException(400, f"threshold {shorten(threshold)!r} is not a number of at least 0 and less than 1")
    return Choice(query.get("detector", ""), query.get("pose", ""), query.get("published", ""), score)


def _image_name(request: Request) -> str:
    """Return what results call the image: never a path."""
    return shorten(PurePath(request.query_params.get("name", "")).name) or "image"


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 19 else 0


def _fixed(text: str, kind: str) -> Callable[[Request], Response]:
    return lambda request: Response(text, media_type=kind)


async def _gone(request: Request, error: Exception) -> Response:
    """The browser closed the connection during the upload; nobody reads this."""
    return Response(status_code=400)


async def _add_headers(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await answer(request)
    response.headers.update(_HEADERS)
    return response
