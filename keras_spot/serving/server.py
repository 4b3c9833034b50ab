"""The server process: a socket, uvicorn, and an end that answers what it has."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_spot.base import leftovers
from keras_spot.base.errors import invalid, missing_extra
from keras_spot.base.types import PathLike
from keras_spot.serving.limits import Limits
from keras_spot.serving.opening import AUTO, exported_folder, open_all

if TYPE_CHECKING:
    from keras_spot.serving.handler import Handler

__all__ = [
    "PROMPTS",
    "address",
    "bind",
    "check_extra",
    "is_loopback",
    "room_for_exports",
    "run",
    "serve",
]

PROMPTS = "prompts"
_SCRATCH = ".keras-spot-serve."


def serve(
    models: Sequence[PathLike],
    *,
    host: str = "127.0.0.1",
    port: int = 8501,
    engine: str = AUTO,
    prompts: PathLike | None = None,
    backbone: str | None = None,
    limits: Limits | None = None,
    log_texts: bool = False,
    report: Callable[[str], object] = print,
) -> None:
    """Serve prompts until SIGTERM or SIGINT; then answer what has been asked, and return.

    A page to try them is at `/`, TensorFlow Serving's REST addresses are below `/v1/models`.

    Args:
        models: folders that `export` wrote; or runs, prompt files, adapters or addresses, which are
            exported first.
        host: address to listen at. Default: of this machine alone.
        port: 0 for one that is free. Default 8501.
        engine: "tensorflow", "ctranslate2" or "onnxruntime"; "auto" (default) measures which is
            the fastest here.
        prompts: folder of prompts that are taken up, replaced and removed while serving. Default:
            `prompts` in the first folder, if it is there.
        backbone: of prompts that do not say theirs.
        limits: what a request may be. Default: see `Limits`.
        log_texts: write texts and answers into the log, too. Default False.
        report: called with what a user wants to know. Default: printed.

    Raises:
        InvalidArgument: a value that breaks its rule, a port that is taken, or models that cannot
            be served together.
        MissingFile, MissingExtra: something is not there.
    """
    check_extra()
    from keras_spot.serving.handler import Handler
    from keras_spot.serving.held import PromptFolder
    from keras_spot.serving.models import Models

    first = exported_folder(models[0]) if models else None
    if prompts is None and first is not None and (first / PROMPTS).is_dir():
        prompts = first / PROMPTS
    if prompts is not None and not Path(prompts).is_dir():
        raise invalid("prompts", "must be a folder", f"{prompts}")
    limits = Limits() if limits is None else limits
    takes_prompts = prompts is not None
    with (
        bind(host, port) as sock,
        room_for_exports() as scratch,
    ):
        is_free = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # the command has its own
        with _handling({signal.SIGTERM: _interrupt} if is_free else {}):
            engines, reason = open_all(
                models, engine, scratch, backbone, takes_prompts, limits.batch
            )
        report(f"engine: {reason}")
        held = None if prompts is None else PromptFolder(prompts, engines[0].facts)
        served = Models(engines, held)
        names = list(served.served)
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        report(f"tasks: {', '.join(names[:10])}{more}")
        handler = Handler(served, limits, log_texts)
        run(handler, sock, lambda: report(f"serving at {address(sock)}"))
    report("stopped")


@contextlib.contextmanager
def room_for_exports() -> Iterator[Path]:
    """Yield a temporary folder; what servers have left that were killed is cleared away first."""
    for left in leftovers.left_in(tempfile.gettempdir()):
        if left.name.startswith(_SCRATCH) and not left.is_symlink() and left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=leftovers.prefix(_SCRATCH)) as scratch:
        yield Path(scratch)


def check_extra() -> None:
    """Look for what serving needs, before anything slow.

    Raises:
        MissingExtra: the extra is not installed.
    """
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise missing_extra(str(error.name).split(".")[0], "serve") from None


def bind(host: str, port: int) -> socket.socket:
    """Return a socket of an address; of port 0 at one that is free.

    It listens once the server runs: until then a client is refused at once.

    Raises:
        InvalidArgument: an address that is not of this machine, or a port that is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named, asyncio sends small answers at once.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        # From here on nobody else may bind it, though it does not listen yet.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except (OSError, OverflowError) as error:
        sock.close()
        raise invalid("port", "must be free at `host`", f"{host}:{port} ({error})") from None
    return sock


def address(sock: socket.socket) -> str:
    """Return where a browser finds a socket."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(handler: Handler, sock: socket.socket, ready: Callable[[], object] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT; then answer what has been asked, and return.

    Args:
        handler: what answers.
        sock: of `bind`.
        ready: called once requests are answered.
    """
    import uvicorn

    from keras_spot.serving.app import LOOPBACK, make_app
    from keras_spot.serving.protocol import protocol_in_time

    host = sock.getsockname()[0]

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            # Connections that end shall not keep the address from the next server.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            await super().startup(sockets)
            ready()

        def handle_exit(self, sig: int, frame: Any) -> None:
            handler.stopping = True  # health checks say so while answers still go out
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        make_app(handler, (*LOOPBACK, host) if is_loopback(host) else None),
        http=protocol_in_time(handler.limits.seconds),
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=math.ceil(handler.limits.seconds) + 1,
    )
    # uvicorn sends itself the signal once more when all is done: then it shall change nothing.
    with _handling({signal.SIGTERM: _ignore, signal.SIGINT: _ignore}):
        Server(config).run(sockets=[sock])


def is_loopback(host: str) -> bool:
    """Say whether an address reaches this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    return ipaddress.ip_address(host).is_loopback


@contextlib.contextmanager
def _handling(handlers: Mapping[int, Callable[[int, Any], None]]) -> Iterator[None]:
    """Handle signals so in the block; only the main thread gets any."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore(number: int, frame: Any) -> None:
    pass


def _interrupt(number: int, frame: Any) -> None:
    """End what is being loaded or exported as Ctrl-C does, so that nothing of it stays."""
    raise KeyboardInterrupt
