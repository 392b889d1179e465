"""A server on the loopback address that misbehaves on request, and counts what it is asked for."""

import email.utils
import hashlib
import http.server
import threading
import time


class Server:
    """Serves ``content``, or what ``files`` has for a path; ``plan`` holds what goes wrong with the next requests.

    An entry of the plan is a status, one of the words below, or None for nothing. ``identity``: with
    what the server identifies its content: "etag", "weak" (an ETag that says nothing about bytes, and the
    time), "time" or None. ``requests`` holds the Range of each request (or None), ``paths`` what was
    asked for, ``sent`` the bytes of all bodies.
    """

    def __init__(self, content):
        self.content, self.files, self.plan, self.identity = content, {}, [], "etag"
        self.requests, self.paths, self.sent, self.changed = [], [], 0, 0
        self.finish = threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def do_HEAD(self):
                server.describe(self)

            def log_message(self, *arguments):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        self.url = f"{self.address}/file.tgz"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.finish.set()
        self.http.shutdown()
        self.http.server_close()

    def swap(self, content):
        """Serve other content from now on."""
        self.content, self.changed = content, self.changed + 1

    def identifying(self, content):
        """The headers that identify the content."""
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        moment = email.utils.formatdate(1_700_000_000 + self.changed, usegmt=True)
        return {
            "etag": {"ETag": tag},
            "weak": {"ETag": 'W/"always the same"', "Last-Modified": moment},
            "time": {"Last-Modified": moment},
            None: {},
        }[self.identity]

    def describe(self, handler):
        """Answers a HEAD request."""
        handler.send_error(501)

    def answer(self, handler):
        handler.close_connection = True
        trouble = self.plan.pop(0) if self.plan else None
        requested = handler.headers.get("Range")
        self.requests.append(requested)
        self.paths.append(handler.path)
        if isinstance(trouble, tuple):
            status, headers = trouble
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.end_headers()
            return
        if isinstance(trouble, int):
            handler.send_error(trouble)
            return
        if trouble == "silence":
            self.finish.wait(30)
            return
        content = self.files.get(handler.path, self.content)
        identifying = self.identifying(content)
        start, condition = 0, handler.headers.get("If-Range")
        fits = condition is None or condition in identifying.values()
        if requested and trouble != "ignore range" and (fits or trouble == "ignore if-range"):
            start = int(requested.removeprefix("bytes=").removesuffix("-"))
        total = len(content)
        if start and start >= total:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{total}")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        for name, value in identifying.items():
            handler.send_header(name, value)
        length = total - start
        if trouble == "length too long":
            length += 1000
        if trouble == "length too short":
            length -= 1000
        if start:
            first = start + 7 if trouble == "other range" else start
            handler.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        if trouble != "no length":
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        body = content[start:]
        if trouble in ("cut", "stall", "no length, cut"):
            body = body[: len(body) // 2]
        self.sent += len(body)
        try:
            if trouble == "slow":
                for begin in range(0, len(body), 1 << 20):
                    handler.wfile.write(body[begin : begin + (1 << 20)])
                    handler.wfile.flush()
                    time.sleep(0.05)
            else:
                handler.wfile.write(body)
            if trouble == "stall":
                handler.wfile.flush()
                self.finish.wait(30)
        except ConnectionError:
            # The client has left, as it may when the length was a lie.
            pass


# Status and error code of a hub for what it cannot give.
HUB_ERRORS = {
    "no repository": (401, "RepoNotFound"),
    "no file": (404, "EntryNotFound"),
    "gated": (403, "GatedRepo"),
}


class Hub(Server):
    """A model hub: one repository whose file lies on another server, as large files do.

    ``location``: address of the file there; ``commits``: of the repository, the newest last;
    ``trouble``: what is wrong with its answers, None for nothing.
    """

    location, commits, trouble = None, (), None

    def describe(self, handler):
        self.answer(handler)

    def answer(self, handler):
        handler.close_connection = True
        self.paths.append(f"{handler.command} {handler.path}")
        revision = handler.path.partition("/resolve/")[2].partition("/")[0]
        commit = self.commits[-1] if revision == "main" else revision
        status, error = HUB_ERRORS.get(self.trouble, (302, None))
        if error is None and commit not in self.commits:
            status, error = 404, "RevisionNotFound"
        if isinstance(self.trouble, int):
            status = self.trouble
        handler.send_response(status)
        if error:
            handler.send_header("X-Error-Code", error)
        elif status == 302:
            digest = hashlib.sha256(self.content).hexdigest()
            headers = {
                "X-Repo-Commit": {"no commit": "", "other commit": "9" * 40}.get(
                    self.trouble, commit
                ),
                # What is no large file has a digest of git's.
                "X-Linked-Etag": f'"{digest[:40] if self.trouble == "no digest" else digest}"',
                "X-Linked-Size": str(len(self.content)),
                "Location": self.location,
            }
            for name, value in headers.items():
                handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
