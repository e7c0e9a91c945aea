"""Runs the page's server: on this computer alone, until it is interrupted."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.optional import optional

from .service import Service

HOST = "127.0.0.1"
_CONNECTIONS = 64  # at a time; a browser opens up to six


def check_libraries() -> None:
    """Raise RmpeError, before any work is done, if a library is missing."""
    for library in ("starlette", "uvicorn"):
        optional(library, "rmpe serve")


def listen(port: int) -> socket.socket:
    """Return a socket that listens on 127.0.0.1. port: 0 for any free one. Raises RmpeError if it is taken."""
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise RmpeError(f"port {port} cannot be used: {os.strerror(error.errno or 0)}; give another one with "
                        "--port, or 0 for any that is free") from None


def make_server(service: Service):
    """Return a uvicorn server, not started yet."""
    uvicorn = optional("uvicorn", "rmpe serve")
    from .app import App

    config = uvicorn.Config(App(service).starlette(), log_config=None, access_log=False, server_header=False,
                            lifespan="off", ws="none", http="h11", limit_concurrency=_CONNECTIONS,
                            timeout_keep_alive=5, timeout_graceful_shutdown=2)
    return uvicorn.Server(config)


def serve(server, listener: socket.socket, started: Callable[[str], None]) -> None:
    """Serve until Ctrl-C. started: gets the page's address."""
    started(f"http://{HOST}:{listener.getsockname()[1]}")
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn raises it once it has stopped
        return
