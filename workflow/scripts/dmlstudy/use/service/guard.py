"""What stands before the service: who may ask, how much, and how slowly. A plain ASGI application.

A page of another site can make a browser send requests to this machine, so a request that a browser sends for
another site is refused, and so is one for a name that is not ours.
"""

import asyncio
import hmac
import json
import time
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException

from dmlstudy.use.service.limits import MEGABYTE

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
LOCAL = {"127.0.0.1", "localhost", "::1"}
# Bytes of a body that is no form with photographs: it holds a name or a number. Read as JSON, a body takes fifty
# times its size in memory.
SMALL = 100_000
# Of a request that is refused, so much is still read: a client that writes would not read the answer.
READ_ON = 8 * MEGABYTE


class Guard:
    """``app``: the service; ``token``: what clients must show, or None; ``limits``: a `Limits`."""

    def __init__(self, app, token, limits):
        self.app, self.token, self.limits = app, token, limits
        self.at_work = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return None
        done = []
        send = self._patient(send, done)
        try:
            return await self._answer(scope, receive, send)
        except Exception:
            # It was logged and answered; raised, it would cost the client its connection.
            if not done:
                raise

    async def _answer(self, scope, receive, send):
        headers = dict(scope["headers"])
        refused = self._refusal(scope, headers)
        if refused:
            return await self._refuse(receive, send, *refused)
        if scope["method"] in ("GET", "HEAD") or not scope["path"].startswith("/api/"):
            return await self.app(scope, self._counted(receive, headers), send)
        if self.at_work >= self.limits.requests:
            sentence = f"{self.at_work} requests are at work; come again in 2 s"
            return await self._refuse(receive, send, 503, sentence, {"retry-after": "2"})
        self.at_work += 1
        try:
            return await self.app(scope, self._counted(receive, headers), send)
        finally:
            self.at_work -= 1

    def _refusal(self, scope, headers):
        """(status, sentence, headers) of a request that is not let in, or None."""
        host = headers.get(b"host", b"").decode("latin-1")
        # Behind a token the service may have any name; without one only those of this machine.
        if self.token is None and _part(f"//{host}", "hostname") not in LOCAL:
            return 403, "this service answers only to 127.0.0.1 and localhost", {}
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and _part(origin, "netloc") != host:
            return 403, "a page of another site may not use this service", {}
        if headers.get(b"sec-fetch-site", b"same-origin") not in (b"same-origin", b"none"):
            return 403, "a page of another site may not use this service", {}
        if self.token is not None and scope["path"].startswith("/api/"):
            shown = headers.get(b"authorization", b"")
            if not hmac.compare_digest(shown, b"Bearer " + self.token.encode()):
                sentence = "this service needs its token: Authorization: Bearer TOKEN"
                return 401, sentence, {"www-authenticate": "Bearer"}
        length = headers.get(b"content-length", b"")
        most, sentence = self._largest(headers)
        if length.isdigit() and int(length) > most:
            return 413, sentence, {}
        return None

    def _largest(self, headers):
        """(bytes of a request's body at most, what is said of more)."""
        most = self.limits.megabytes * MEGABYTE
        if headers.get(b"content-type", b"").lower().startswith(b"multipart/form-data"):
            return most, (
                f"more than {self.limits.megabytes} MB in one request; send fewer photographs at a time"
            )
        return min(SMALL, most), (
            f"more than {SMALL // 1000} kB in a request without photographs; send a class name or a number, or "
            "photographs as multipart/form-data"
        )

    def _counted(self, receive, headers):
        """``receive`` with limits on size and time; they raise an HTTPException."""
        read, end = 0, time.monotonic() + self.limits.upload
        most, sentence = self._largest(headers)
        complete = False

        async def limited():
            nonlocal read, complete
            if complete:
                # What waits for the client to go may wait.
                return await receive()
            seconds = min(self.limits.silence, end - time.monotonic())
            try:
                message = await asyncio.wait_for(receive(), max(0, seconds))
            except TimeoutError:
                raise HTTPException(
                    408, "the request came too slowly", {"connection": "close"}
                ) from None
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if read > most:
                    raise HTTPException(413, sentence, {"connection": "close"})
            return message

        return limited

    def _patient(self, send, done):
        """``send`` with our headers, and with an end for clients that do not read. ``done`` gets the last message."""

        async def limited(message):
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                message["headers"] = list(message["headers"]) + [
                    (name.encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.encode() not in given
                ]
            await asyncio.wait_for(send(message), self.limits.silence)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                done.append(message)

        return limited

    async def _refuse(self, receive, send, status, sentence, headers):
        read, end = 0, time.monotonic() + self.limits.silence
        try:
            while read < READ_ON:
                message = await asyncio.wait_for(receive(), max(0, end - time.monotonic()))
                read += len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
        except TimeoutError:
            pass
        body = json.dumps({"detail": sentence}).encode()
        head = {"content-type": "application/json", "content-length": str(len(body))}
        head |= headers | {"connection": "close"}
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(name.encode(), value.encode()) for name, value in head.items()],
            }
        )
        await send({"type": "http.response.body", "body": body})


def _part(address, part):
    """A part of an address; None if it is no address."""
    try:
        return getattr(urlsplit(address), part)
    except ValueError:
        return None
