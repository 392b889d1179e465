"""Runs an ASGI application with uvicorn, on an address that was checked before."""

import asyncio
import contextlib
import socket

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from dmlstudy.core.files import StudyError

# Seconds: for the headers of a request; for an idle connection; for requests at work when it ends.
HEADERS, IDLE, END = 10, 15, 30
CONNECTIONS = 512
HEADER_BYTES = 32_768


class PatientProtocol(H11Protocol):
    """Closes connections whose headers do not come: uvicorn itself would keep them for ever."""

    def connection_made(self, transport):
        super().connection_made(transport)
        self.waiting = self.loop.call_later(HEADERS, self._late)

    def _late(self):
        if not self.transport.is_closing():
            self.transport.close()

    def data_received(self, data):
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            # The headers are complete.
            if self.waiting is not None:
                self.waiting.cancel()
                self.waiting = None
        elif self.cycle is not None and self.waiting is None:
            # The beginning of further headers. More of them does not begin the time anew.
            self.waiting = self.loop.call_later(HEADERS, self._late)

    def connection_lost(self, exc):
        if self.waiting is not None:
            self.waiting.cancel()
        super().connection_lost(exc)


def listen(host, port):
    """A socket that listens; StudyError if the address cannot be had. Port 0: any that is free."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # With its protocol named, or asyncio leaves Nagle's algorithm on, and an answer waits 40 ms for the client.
        opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StudyError(
            f"--host {host} --port {port}: {reason}; choose another address or port"
        ) from None
    opened.listen(512)
    return opened


def make_server(app):
    """A uvicorn server of an application. It ends on SIGINT and SIGTERM; requests at work are finished."""
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=END,
        limit_concurrency=CONNECTIONS,
        h11_max_incomplete_event_size=HEADER_BYTES,
        proxy_headers=False,
    )
    return uvicorn.Server(config)


def run(server, opened):
    """Serve on a socket of `listen` until the server ends."""
    # Uvicorn sends SIGINT to itself again, after it has ended in order.
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(server.serve(sockets=[opened]))
