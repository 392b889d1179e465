"""How serve.py starts and ends: mistakes are told first, in a sentence."""

import contextlib
import io
import runpy
import signal
import socket
import sys

import pytest
from tiny_service import SCRIPTS, photographs_of, served

TOKEN = "a-token-of-some-length"


def refused(*arguments):
    """What serve.py says; it must end with exit code 1 and without a traceback."""
    before, sys.argv, errors = sys.argv, ["serve.py", *map(str, arguments)], io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(errors),
            pytest.raises(SystemExit) as end,
        ):
            runpy.run_path(str(SCRIPTS / "serve.py"), run_name="__main__")
    finally:
        sys.argv = before
    assert end.value.code == 1
    assert "Traceback" not in errors.getvalue()
    return errors.getvalue()


def test_mistakes_are_told_in_words(run, tmp_path, monkeypatch):
    """Would catch a service that others can reach without a token, and a traceback."""
    short = tmp_path / "token"
    short.write_text("short\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        cases = {
            ("--host", "0.0.0.0"): "needs a token: give --token-file",
            ("--host", "192.0.2.1", "--token-file", short): "at least 16 characters",
            ("--token-file", tmp_path / "none"): "no such file",
            ("--port", port): f"--port {port}: Address already in use; choose another",
            ("--port", 70000): "--port 70000: must be",
            ("--photographs", 0): "--photographs 0: must be",
            ("--images", tmp_path / "none"): "--images",
            ("--out", "index"): "the workflow makes this index",
            ("--index", "none"): "there is no index; make one with: snakemake",
            ("--run", tmp_path): "model.pt: no such file",
        }
        for options, words in cases.items():
            assert words in refused("--run", run, *options), options
    monkeypatch.setenv("DML_SERVICE_TOKEN", "with blanks in it, long")
    assert "ASCII letters and digits" in refused("--run", run)
    assert not (run / "index_enrolled_files").exists()


def test_it_ends_when_asked(run, tmp_path):
    """Would catch a service that does not end, that says a traceback, or that leaves files of requests."""
    (tmp_path / "token").write_text(TOKEN + "\n")
    with served(run, "--token-file", tmp_path / "token") as service:
        assert service.get("/api/status").status_code == 401
        service.client.headers["authorization"] = f"Bearer {TOKEN}"
        assert service.name(photographs_of(run, 0)[:1])[0]["class_name"] == "class 0"
        service.process.send_signal(signal.SIGINT)
        text, _ = service.process.communicate(timeout=60)
    assert "Traceback" not in text
    assert list((run / "index_enrolled_files").glob(".incoming.*")) == []
