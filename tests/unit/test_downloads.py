"""Downloads against a server on the loopback address that misbehaves on request."""

import hashlib
import http.server
import threading

import numpy as np
import pytest

from dmlstudy.downloads import download
from dmlstudy.files import StudyError

CONTENT = np.random.default_rng(0).bytes(3_000_000)
CHECKSUM = {"md5": hashlib.md5(CONTENT).hexdigest()}


class Server:
    """Serves ``content``; ``plan`` holds what goes wrong with the next requests, in order."""

    def __init__(self):
        self.content, self.plan, self.requests, self.sent = CONTENT, [], [], 0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *arguments):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/file.tgz"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, handler):
        trouble = self.plan.pop(0) if self.plan else None
        requested = handler.headers.get("Range")
        self.requests.append(requested)
        if isinstance(trouble, int):
            handler.send_error(trouble)
            return
        etag = f'"{hashlib.md5(self.content).hexdigest()}"'
        start = 0
        if requested and trouble != "ignore range" and handler.headers.get("If-Range") == etag:
            start = int(requested.removeprefix("bytes=").removesuffix("-"))
        handler.send_response(206 if start else 200)
        handler.send_header("ETag", etag)
        handler.send_header("Content-Length", str(len(self.content) - start))
        handler.end_headers()
        body = self.content[start:]
        if trouble == "cut":
            body = body[: len(body) // 2]
        self.sent += len(body)
        handler.wfile.write(body)
        handler.close_connection = True


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def test_complete_file_is_verified_and_nothing_is_left_beside_it(server, tmp_path):
    """Leftovers that a later run could take for something."""
    seen = []
    download(
        server.url, tmp_path / "file", CHECKSUM, progress=lambda done, total: seen.append(done)
    )
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert seen[-1] == len(CONTENT)


def test_cut_connection_asks_only_for_what_is_missing(server, tmp_path):
    """A download that begins anew after every break."""
    server.plan = ["cut", "cut"]
    download(server.url, tmp_path / "file", CHECKSUM, wait=0)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1500000-", "bytes=2250000-"]
    assert server.sent == len(CONTENT)


def test_next_run_goes_on_where_the_last_one_gave_up(server, tmp_path):
    """What a failed job had downloaded, lost."""
    server.plan = ["cut", 503, 503, 503, 503]
    with pytest.raises(StudyError, match="Run the same command again"):
        download(server.url, tmp_path / "file", CHECKSUM, wait=0)
    assert not (tmp_path / "file").exists()
    download(server.url, tmp_path / "file", CHECKSUM, wait=0)
    assert server.requests[-1] == "bytes=1500000-"
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_file_that_changed_between_two_requests_is_not_mixed(server, tmp_path):
    """Two halves of two files."""
    server.plan = ["cut", 503, 503, 503, 503]
    with pytest.raises(StudyError):
        download(server.url, tmp_path / "file", CHECKSUM, wait=0)
    server.content = np.random.default_rng(1).bytes(3_000_000)
    changed = {"md5": hashlib.md5(server.content).hexdigest()}
    download(server.url, tmp_path / "file", changed, wait=0)
    assert (tmp_path / "file").read_bytes() == server.content


def test_server_that_ignores_ranges(server, tmp_path):
    """A second half appended to a whole."""
    server.plan = ["cut", "ignore range"]
    download(server.url, tmp_path / "file", CHECKSUM, wait=0)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_wrong_checksum_is_named_and_removed(server, tmp_path):
    """A file of other content that is unpacked all the same, or that blocks the next attempt."""
    with pytest.raises(StudyError, match=r"file\.tgz.*md5.*was expected"):
        download(server.url, tmp_path / "file", {"md5": "0" * 32}, wait=0)
    assert list(tmp_path.iterdir()) == []


def test_missing_file_is_not_asked_for_again(server, tmp_path):
    """Patience with a 404, or a page of words taken for an archive."""
    server.plan = [404] * 5
    with pytest.raises(StudyError, match="404"):
        download(server.url, tmp_path / "file", CHECKSUM, wait=0)
    assert len(server.requests) == 1
    assert not (tmp_path / "file").exists()
