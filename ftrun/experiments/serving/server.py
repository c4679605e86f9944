"""The process that listens: a socket, uvicorn, and an end that leaves no request without its answer."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError

if TYPE_CHECKING:
    from starlette.applications import Starlette

NEEDED = ("starlette", "uvicorn")
PATIENCE = 30  # seconds that requests have, once the process is told to end
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def refuse_missing() -> None:
    """ConfigError where the libraries that serve are not installed."""
    lost = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if lost:
        raise ConfigError(f"serve needs {', '.join(lost)}: pip install 'ftrun[serve]'")


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there; ConfigError where none can."""
    if not 0 <= port <= 65535:
        raise ConfigError(f"serve: --port {port}: a port is 1 to 65535, or 0 for any that is free")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        number = error.errno or 0  # below 0 where a name means nothing
        reason = os.strerror(number).lower() if number > 0 else error.strerror or error
        raise ConfigError(f"serve: nothing can listen at {host} port {port} ({reason})") from None


def address(place: socket.socket) -> str:
    host, port = place.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(app: Starlette, place: socket.socket, ready: Callable[[], None]) -> None:
    """Answer until SIGTERM or Ctrl-C, and then what has come; a second Ctrl-C ends at once.

    `ready` is called when a signal ends it in this way, just before the first answer.
    """
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=PATIENCE,
        )
    )

    def stop(number: int, frame: Any) -> None:  # until uvicorn has its own, which raises the signal again
        server.should_exit = True

    def calm(record: logging.LogRecord) -> bool:  # what is broken off by the second is no error
        return not server.force_exit

    log = logging.getLogger("uvicorn.error")
    log.addFilter(calm)
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        ready()
        server.run(sockets=[place])
    finally:
        log.removeFilter(calm)
        for number, handler in before.items():
            signal.signal(number, handler)
