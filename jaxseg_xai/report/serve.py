"""The gallery from a server: any number of explanations, each made when it is looked at."""

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from jaxseg_xai.core.errors import ConfigError, JaxsegError, MissingExtraError
from jaxseg_xai.report.case_page import Limits, case_json
from jaxseg_xai.report.cases import Case, cases_of
from jaxseg_xai.report.gallery import figure_webp, gallery_html
from jaxseg_xai.store import Row, Store

if TYPE_CHECKING:
    from starlette.applications import Starlette

#: Of an answer; a volume of 256 x 256 x 256 is whole.
SERVED = Limits(longest=2048, voxels=2**24)
_LOOPBACK = ("127.0.0.1", "localhost")


@dataclasses.dataclass
class Shown:
    """A store and its cases, as they were when the page was last loaded."""

    store: Store
    rows: list[Row]
    cases: list[Case]

    @classmethod
    def of(cls, store: Store) -> "Shown":
        """Everything of a store that is done."""
        rows = store.rows()
        return cls(store, rows, cases_of(rows, store.class_names))

    def find(self, label: str, number: int) -> Row | None:
        """The row of a number of an entry, if there is one."""
        found = (row for row in self.rows if row.label == label and row.number == number)
        return next(found, None)


def gallery_app(
    open_store: Callable[[], Store], *, hosts: tuple[str, ...] = _LOOPBACK
) -> "Starlette":
    """The web application; see `serve`.

    Args:
      open_store: opens the store; called for every load of the page, so that a sweep that is still
        running can be looked at.
      hosts: names that a browser may call this server by. Others are refused: a page from elsewhere
        could else have its own name lead here and read the store.

    Raises:
      MissingExtraError: without the extra `serve`.
    """
    try:
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.requests import Request
        from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
        from starlette.routing import Route
    except ImportError as error:
        raise MissingExtraError("Serving a gallery", "serve") from error

    lock = threading.Lock()  # stores and Matplotlib are asked one thing at a time
    shown = Shown.of(open_store())

    # Plain functions run in threads, so that a picture being drawn holds up nothing else.
    def page(request: Request) -> Response:
        nonlocal shown
        del request
        with lock:
            shown = Shown.of(open_store())
            return HTMLResponse(gallery_html(shown.store, shown.rows, shown.cases))

    def case(request: Request) -> Response:
        number = request.path_params["number"]
        with lock:
            if number >= len(shown.cases):
                return PlainTextResponse("there is no such case; load the page again", 404)
            found = shown.cases[number]
            address = "figures/{0.label}/{0.number}".format
            return JSONResponse(case_json(shown.store, found, limits=SERVED, figure=address))

    def figure(request: Request) -> Response:
        with lock:
            row = shown.find(request.path_params["label"], request.path_params["row"])
            if row is None:
                return PlainTextResponse("there is no such explanation; load the page again", 404)
            return Response(figure_webp(shown.store, row), media_type="image/webp")

    def refuse(request: Request, error: Exception) -> Response:
        del request
        return PlainTextResponse(str(error), 500)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/cases/{number:int}", case),
            Route("/figures/{label}/{row:int}", figure),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={JaxsegError: refuse},
    )


def serve(
    open_store: Callable[[], Store],
    *,
    host: str = "127.0.0.1",
    port: int = 8600,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the gallery of a store until interrupted.

    Args:
      open_store: opens the store.
      host: name or IPv4 address to listen at. The default is this machine alone; at another,
        whoever reaches it sees the store.
      port: to listen at; 0 takes a free one.
      say: told the address, once it can be opened.

    Raises:
      ConfigError: nothing can listen there.
      MissingExtraError: without the extra `serve`.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtraError("Serving a gallery", "serve") from error
    anywhere = host not in _LOOPBACK
    app = gallery_app(open_store, hosts=("*",) if anywhere else _LOOPBACK)
    with _listening(host, port) as place:
        say(f"http://{host}:{place.getsockname()[1]}/ (Ctrl+C ends it)")
        if anywhere:
            say("whoever reaches this address sees the store; 127.0.0.1 is this machine alone")
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[place])


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            place.bind((host, port))
            place.listen()
        except OSError as error:
            raise ConfigError(
                f"cannot listen at {host}:{port} ({error.strerror}); choose another --port "
                "(0: any that is free), or another --host"
            ) from None
        yield place
