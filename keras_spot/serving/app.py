"""The ASGI application: addresses, limits and headers around the handler."""

import asyncio
import contextlib
import logging
import re
import time
import traceback
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from keras_spot.serving.handler import VERBS, VERSION, Handler
from keras_spot.serving.limits import Refused
from keras_spot.serving.models import EVERY
from keras_spot.serving.requests import to_json

__all__ = ["LOOPBACK", "PAGE", "log", "make_app"]

log = logging.getLogger("keras_spot.serving")

PAGE = Path(__file__).parent / "page"
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_VERSION = re.compile(r"(.+)/versions/(\d+)")
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_READ_ON = 16  # times the limit: a client that still writes would not read why it is refused
_ASKED = tuple(f":{verb}" for verb in VERBS)
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def make_app(handler: Handler, hosts: Collection[str] | None = None) -> Starlette:
    """Return the application.

    Args:
        handler: what answers.
        hosts: what requests may call this host, so that no page of another site reaches a server
            that listens to this machine alone; see `LOOPBACK`. Default: anything.
    """
    site = _Site(handler, hosts)

    @contextlib.asynccontextmanager
    async def life(app: Any) -> AsyncIterator[None]:
        await handler.start()
        yield
        await handler.stop()

    routes = [
        *(Route(path, site.endpoint(site.page)) for path in _FILES),
        Route("/healthz", site.endpoint(site.health)),
        Route("/metrics", site.endpoint(site.metrics)),
        Route("/v1/models", site.endpoint(site.models)),
        Route("/v1/models/{rest:path}", site.model_or_answer, methods=["GET", "POST"]),
    ]
    return Starlette(
        routes=routes, lifespan=life, exception_handlers={HTTPException: _no_such_address}
    )


class _Site:
    """The answers by address."""

    def __init__(self, handler: Handler, hosts: Collection[str] | None) -> None:
        self.handler, self._hosts = handler, hosts
        self._pages = {path: (PAGE / name).read_bytes() for path, (name, _) in _FILES.items()}

    def endpoint(self, answer: Any) -> Any:
        """Return an endpoint that refuses as `answer` does, by status and message."""

        async def endpoint(request: Request) -> Response:
            try:
                self._check_host(request)
                return answer(request)
            except Refused as refused:
                return _refusal(refused)

        return endpoint

    def page(self, request: Request) -> Response:
        path = request.url.path
        return Response(self._pages[path], media_type=_FILES[path][1], headers=_HEADERS)

    def health(self, request: Request) -> Response:
        if self.handler.stopping:
            raise Refused(503, "the server is stopping")
        return _json({"status": "ok"})

    def metrics(self, request: Request) -> Response:
        return Response(self.handler.telemetry.text(), media_type=_PROMETHEUS)

    def models(self, request: Request) -> Response:
        return _json(self.handler.listing())

    def model(self, request: Request) -> Response:
        rest = request.path_params["rest"]
        if rest.endswith("/metadata"):
            return _json(self.handler.metadata(_name(rest.removesuffix("/metadata"))))
        if rest.endswith(_ASKED) and rest not in self.handler.models.served:
            raise HTTPException(405, headers={"Allow": "POST"})
        return _json(self.handler.status(_name(rest)))

    async def model_or_answer(self, request: Request) -> Response:
        """Answer a question about a model, or one to it."""
        if request.method == "POST":
            return await self.ask(request)
        return await self.endpoint(self.model)(request)

    async def ask(self, request: Request) -> Response:
        """Answer `NAME:predict` and `NAME:classify`."""
        started, handler = time.perf_counter(), self.handler
        name, _, verb = request.path_params["rest"].rpartition(":")
        try:
            async with asyncio.timeout(handler.limits.seconds):
                self._check_host(request)
                name = _name(name)
                body = await self._body(request)
                response = _json(await handler.answer(name, verb, body))
        except Refused as refused:
            response = _refusal(refused)
        except TimeoutError:
            seconds = handler.limits.seconds
            response = _refusal(Refused(504, f"no answer within {seconds:g} seconds"))
        except ClientDisconnect:
            response = _refusal(Refused(400, "the request broke off"))
        except Exception as error:  # its message may hold a caller's text
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("a request failed with %s\n%s", type(error).__name__, frames)
            response = _refusal(Refused(500, "the server failed; its log says where"))
        known = name if name == EVERY or name in handler.models.served else "unknown"
        verb = verb if verb in VERBS else "unknown"
        seconds = time.perf_counter() - started
        handler.telemetry.request(known, verb, response.status_code, seconds)
        log.info("%s:%s %d %.3fs", known, verb, response.status_code, seconds)
        return response

    async def _body(self, request: Request) -> bytes:
        limit, parts, size = self.handler.limits.body, [], 0
        refused = Refused(413, f"a body must be of at most {limit} bytes")
        encoding = request.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            raise Refused(415, f"a body must be sent as it is. Received: {encoding[:100]}")
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > _READ_ON * limit:
            raise refused
        async for part in request.stream():
            size += len(part)
            if size <= limit:
                parts.append(part)
            elif size > _READ_ON * limit:
                raise refused
        if size > limit:
            raise refused
        return b"".join(parts)

    def _check_host(self, request: Request) -> None:
        host = re.sub(r":\d*$", "", request.headers.get("host", "localhost"))
        if self._hosts is not None and host.lower() not in self._hosts:
            raise Refused(421, "this server answers to localhost alone (see --host)")


def _name(path: str) -> str:
    """Return the name in an address that may end in a version.

    Raises:
        Refused: 404 for another version than the one there is.
    """
    match = _VERSION.fullmatch(path)
    if match is None:
        return path
    if match[2] != VERSION:
        raise Refused(404, f"no such version: {match[2][:20]} (there is {VERSION})")
    return match[1]


def _json(record: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        to_json(record),
        status,
        {**(headers or {}), "X-Content-Type-Options": "nosniff"},
        media_type="application/json",
    )


def _no_such_address(request: Request, error: Exception) -> Response:
    """Say in JSON, too, that an address or a method is none."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405 and error.headers:
        allowed = error.headers["Allow"]
        return _json({"error": f"must be asked by {allowed}"}, 405, dict(error.headers))
    return _json({"error": "no such address (see /v1/models)"}, error.status_code)


def _refusal(refused: Refused) -> Response:
    headers = {} if refused.retry is None else {"Retry-After": str(refused.retry)}
    if refused.status == 413:
        headers["Connection"] = "close"  # the rest of the body is not read
    return _json({"error": refused.message}, refused.status, headers)
