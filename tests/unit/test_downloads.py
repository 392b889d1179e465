"""Downloads from a local server that misbehaves on request."""

import hashlib
import importlib.util
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from loopback import Server

from dmlstudy.compute.embedding_model import build_backbone, load_backbone_weights
from dmlstudy.core import console
from dmlstudy.core.files import StudyError
from dmlstudy.core.source_code import PROGRAMS
from dmlstudy.data import downloads
from dmlstudy.data.downloads import download

CONTENT = np.random.default_rng(0).bytes(3_000_000)
OTHER = np.random.default_rng(1).bytes(3_000_000)


def md5(content):
    return {"md5": hashlib.md5(content).hexdigest()}


CHECKSUM = md5(CONTENT)


@pytest.fixture
def server():
    server = Server(CONTENT)
    yield server
    server.close()


@pytest.fixture
def mirror():
    server = Server(CONTENT)
    yield server
    server.close()


def fetch(servers, folder, checksums=CHECKSUM, **options):
    """Download to ``folder``/file without waiting between attempts; returns what arrived."""
    servers = [servers] if isinstance(servers, Server) else servers
    urls = [server.url for server in servers]
    download(urls, folder / "file", checksums, **{"wait": 0, "timeout": (5, 5), **options})
    assert [path.name for path in folder.iterdir()] == ["file"]
    return (folder / "file").read_bytes()


def fails(servers, folder, words, **options):
    with pytest.raises(StudyError, match=words):
        fetch(servers, folder, **options)
    assert not (folder / "file").exists()


def test_complete_file_is_verified_and_nothing_is_left_beside_it(server, tmp_path):
    """Would catch leftovers that a later run could use by mistake."""
    seen = []
    assert (
        fetch(server, tmp_path, progress=lambda *counts: seen.append(counts), size=3_000_000)
        == CONTENT
    )
    assert seen[-1] == (3_000_000, 3_000_000)
    assert seen == sorted(seen)


@pytest.mark.parametrize("identity", ["etag", "weak", "time", None])
def test_cut_connection_asks_only_for_what_is_missing(server, tmp_path, identity):
    """Would catch a download that starts again after every break, for any kind of validator."""
    server.identity, server.plan = identity, ["cut", "cut"]
    assert fetch(server, tmp_path) == CONTENT
    assert server.requests == [None, "bytes=1500000-", "bytes=2250000-"]
    assert server.sent == len(CONTENT)


def test_next_run_goes_on_where_the_last_one_gave_up(server, tmp_path):
    """Would catch the bytes of a failed job being lost."""
    server.plan = ["cut", 503, 503, 503, 503, 503]
    fails(server, tmp_path, "Run the same command again")
    assert fetch(server, tmp_path) == CONTENT
    assert server.requests[-1] == "bytes=1500000-"
    assert server.sent == len(CONTENT)


def test_connection_that_breaks_often_gets_there(server, tmp_path):
    """Would catch attempts that are counted as failures although each makes progress."""
    server.content = CONTENT * 5
    server.plan = ["cut"] * 4 + [503, 503, "cut"]
    assert fetch(server, tmp_path, md5(server.content)) == server.content
    assert server.sent == len(server.content)


@pytest.mark.parametrize("identity", ["etag", "weak", "time"])
def test_file_that_changed_between_two_requests_is_not_mixed(server, tmp_path, identity):
    """Would catch halves of two files joined."""
    server.identity, server.plan = identity, ["cut", 404]
    fails(server, tmp_path, "404")
    server.swap(OTHER)
    assert fetch(server, tmp_path, {}) == OTHER


@pytest.mark.parametrize("identity", ["etag", "weak", "time"])
def test_changed_file_of_a_server_that_ignores_if_range(server, tmp_path, identity):
    """Would catch the rest of another file appended because the server sent it."""
    server.identity, server.plan = identity, ["cut", 404]
    fails(server, tmp_path, "404")
    server.swap(OTHER)
    server.plan = ["ignore if-range"]
    assert fetch(server, tmp_path, {}) == OTHER
    assert server.requests[-2:] == ["bytes=1500000-", None]


def test_changed_file_without_any_identity_is_told_by_its_checksum(server, tmp_path):
    """Would catch halves of two files that only the checksum detects, or an error instead of another try."""
    server.identity, server.plan = None, ["cut", 404]
    fails(server, tmp_path, "404")
    server.swap(OTHER)
    assert fetch(server, tmp_path, md5(OTHER)) == OTHER
    assert server.requests[-2:] == ["bytes=1500000-", None]


def test_nothing_is_continued_that_nothing_can_verify(server, tmp_path):
    """Would catch halves of two files joined when neither validator nor checksum exists."""
    server.identity, server.plan = None, ["cut", 404]
    fails(server, tmp_path, "404")
    server.swap(OTHER)
    assert fetch(server, tmp_path, {}) == OTHER
    assert server.requests[-1] is None


def test_file_that_became_shorter(server, tmp_path):
    """Would catch an endless loop about a range that no longer exists."""
    server.plan = ["cut", 404]
    fails(server, tmp_path, "404")
    server.swap(CONTENT[:1000])
    assert fetch(server, tmp_path, md5(CONTENT[:1000])) == CONTENT[:1000]


@pytest.mark.parametrize("trouble", ["ignore range", "other range"])
def test_server_that_ignores_ranges_or_sends_another(server, tmp_path, trouble):
    """Would catch a second half appended to a complete file, or bytes at the wrong position."""
    server.plan = ["cut", trouble]
    assert fetch(server, tmp_path) == CONTENT


def test_length_that_is_too_long(server, tmp_path):
    """Would catch a download that waits although the file is complete."""
    server.plan = ["length too long"]
    assert fetch(server, tmp_path) == CONTENT
    assert server.sent == len(CONTENT)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "md5.*was expected"),
        ({"checksums": {}, "size": 3_000_000}, "has 2999000 bytes, but 3000000 were expected"),
    ],
)
def test_length_that_is_too_short(server, tmp_path, options, words):
    """Would catch a truncated file taken for complete."""
    server.plan = ["length too short"]
    fails(server, tmp_path, words, **options)
    assert list(tmp_path.iterdir()) == []


def test_answer_without_a_length(server, tmp_path):
    """Would catch a size from the configuration that is not used to detect missing bytes."""
    server.plan = ["no length"]
    assert fetch(server, tmp_path) == CONTENT
    (tmp_path / "file").unlink()
    server.plan = ["no length, cut"]
    assert fetch(server, tmp_path, size=3_000_000) == CONTENT
    assert server.requests[-1] == "bytes=1500000-"


def test_wrong_size_is_refused_before_anything_is_downloaded(server, tmp_path):
    """Would catch a long download of a file with the wrong size."""
    fails(server, tmp_path, "has 3000000 bytes, but 7 were expected", size=7)
    assert list(tmp_path.iterdir()) == []
    assert len(server.requests) == 1


def test_file_that_does_not_fit_on_the_disk_is_refused_at_once(server, tmp_path, monkeypatch):
    """Would catch a disk that is full only at the end of a long download."""
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    fails(server, tmp_path, "3000000 bytes, but only 1000 are free")


def test_silent_server_is_given_up(server, tmp_path):
    """Would catch a job that hangs for ever."""
    server.plan = ["silence"] * 5
    fails(server, tmp_path, "(?i)timed out", timeout=(1, 0.1))
    assert len(server.requests) == 5


def test_server_that_falls_silent_is_asked_for_the_rest(server, tmp_path):
    """Would catch waiting for ever on a connection that is open but dead."""
    server.plan = ["stall"]
    assert fetch(server, tmp_path, timeout=(1, 0.3)) == CONTENT
    assert server.requests == [None, "bytes=1500000-"]


def test_slow_server_is_waited_for(server, tmp_path):
    """Would catch a timeout that counts from the start and not from the last byte."""
    server.plan = ["slow"]
    assert fetch(server, tmp_path, timeout=(1, 1)) == CONTENT
    assert len(server.requests) == 1


def test_wrong_checksum_is_named_and_removed(server, tmp_path):
    """Would catch a file with wrong content that is used, or that blocks the next attempt."""
    fails(server, tmp_path, r"file\.tgz.*md5.*was expected", checksums={"md5": "0" * 32})
    assert list(tmp_path.iterdir()) == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [403, 404, 410])
def test_missing_file_is_not_asked_for_again(server, tmp_path, status):
    """Would catch retries after a 404, or an error page taken for an archive."""
    server.plan = [status] * 5
    fails(server, tmp_path, str(status))
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_trouble_of_the_server_is_waited_out(server, tmp_path, status):
    """Would catch a study that stops because a server restarted, or that retries for ever."""
    server.plan = [status] * 4
    assert fetch(server, tmp_path) == CONTENT
    (tmp_path / "file").unlink()
    server.plan = [status] * 5
    fails(server, tmp_path, str(status))
    assert server.plan == []


def test_waits_double_and_a_server_may_ask_for_its_own(server, tmp_path, monkeypatch):
    """Would catch requests every second to an overloaded server, or a wait of a day at its request."""
    waits = []
    monkeypatch.setattr(downloads.time, "sleep", waits.append)
    server.plan = [
        500,
        500,
        (503, {"Retry-After": "7"}),
        (429, {"Retry-After": "86400"}),
    ]
    assert fetch(server, tmp_path, wait=2) == CONTENT
    assert waits == [2, 4, 7, 300]
    (tmp_path / "file").unlink()
    server.plan = [(503, {"Retry-After": "soon"})]
    fetch(server, tmp_path, wait=2)
    assert waits[4:] == [2]


def test_nobody_listens(server, tmp_path):
    """Would catch a traceback instead of a clear message."""
    server.close()
    fails(server, tmp_path, "file.tgz: .*refused")


@pytest.mark.parametrize("url", ["http://", "http://[::1", "https://no host/x"])
def test_address_that_makes_no_sense(tmp_path, url):
    """Would catch a traceback, or retries after a typing error."""
    with pytest.raises(StudyError, match="could not download"):
        download(url, tmp_path / "file", {}, wait=1000)


def test_redirection_is_followed_with_the_range(server, tmp_path):
    """Would catch continuations that start again for servers that redirect to another host."""
    moved = (302, {"Location": f"{server.address}/store/file.tgz"})
    server.plan = [moved, "cut", moved]
    assert fetch(server, tmp_path) == CONTENT
    assert server.paths == ["/file.tgz", "/store/file.tgz"] * 2
    assert server.requests[-1] == "bytes=1500000-"


def test_program_that_was_killed_goes_on(server, tmp_path):
    """Would catch bytes that are lost unless the program ends normally."""
    command = [sys.executable, str(PROGRAMS / "download.py"), "--url", server.url]
    command += ["--checksum", f"md5:{CHECKSUM['md5']}", "--out", str(tmp_path / "out" / "file")]
    server.plan = ["stall"]
    process = subprocess.Popen(command)
    for _ in range(600):
        if any(path.stat().st_size >= 1_400_000 for path in tmp_path.glob("out/*.partial")):
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    subprocess.run(command, check=True, timeout=60)
    assert (tmp_path / "out" / "file").read_bytes() == CONTENT
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["file", "file.sha256"]
    assert int(server.requests[-1].removeprefix("bytes=").removesuffix("-")) >= 1_400_000


# Several addresses.


@pytest.mark.parametrize("trouble", [[404], [500] * 5, ["silence"] * 5])
def test_next_address_is_tried(server, mirror, tmp_path, trouble):
    """Would catch a second address that is never used."""
    server.plan = trouble
    assert fetch([server, mirror], tmp_path, timeout=(1, 0.1)) == CONTENT
    assert mirror.requests == [None]


def test_address_with_another_file_is_passed_over(server, mirror, tmp_path):
    """Would catch a mirror with another version whose wrong checksum ends the study."""
    server.swap(OTHER)
    assert fetch([server, mirror], tmp_path) == CONTENT


def test_bytes_of_two_addresses_are_not_mixed(server, mirror, tmp_path):
    """Would catch half a file of one address continued with the other's."""
    server.swap(OTHER)
    server.plan = ["cut", 404]
    assert fetch([server, mirror], tmp_path, {}) == CONTENT
    assert mirror.requests == [None]


def test_each_address_goes_on_where_it_stopped(server, mirror, tmp_path):
    """Would catch a partial file of one address that another address uses, or that is never deleted."""
    server.plan, mirror.plan = ["cut", 404], ["cut", 404]
    fails([server, mirror], tmp_path, "(?s)404.*404")
    server.plan = [404]
    assert fetch([server, mirror], tmp_path) == CONTENT
    assert server.requests[-1] == mirror.requests[-1] == "bytes=1500000-"
    assert mirror.sent == len(CONTENT)


def test_every_failure_is_told(server, mirror, tmp_path):
    """Would catch an error that only names the last address."""
    server.plan = [404]
    mirror.swap(OTHER)
    fails([server, mirror], tmp_path, f"(?s){server.url}: 404.*{mirror.url}: md5 is")


# Proxies and progress.


def test_proxy_of_the_environment_is_used(server, tmp_path, monkeypatch):
    """Would catch downloads that ignore the proxy of the environment."""
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.setenv("no_proxy", "")
    download("http://data.invalid/birds.tgz", tmp_path / "file", CHECKSUM, wait=0)
    assert server.paths == ["http://data.invalid/birds.tgz"]
    monkeypatch.setenv("no_proxy", "data.invalid")
    with pytest.raises(StudyError, match=r"data\.invalid"):
        download("http://data.invalid/birds.tgz", tmp_path / "other", CHECKSUM, wait=0)
    assert len(server.paths) == 1


def test_progress_tells_size_and_time_left(caplog, monkeypatch):
    """Would catch a silent log, or a remaining time that counts bytes of an earlier run."""
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    caplog.set_level("INFO")
    with console.Transfer("birds") as progress:
        # 500 MB of 1,000 were there; then 1 MB a second.
        for second in range(501):
            now[0] = second
            progress((500 + second) * 1_000_000, 1_000_000_000)
    assert caplog.messages == [
        "birds: 600 of 1000 MB, 6:40 left",
        "birds: 700 of 1000 MB, 5:00 left",
        "birds: 800 of 1000 MB, 3:20 left",
        "birds: 900 of 1000 MB, 1:40 left",
        "birds: 1000 of 1000 MB",
    ]


# Weights, through the program that the rule calls.


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory):
    """A file of ResNet18's weights, as torchvision publishes them."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    return path


@pytest.fixture
def get_weights(server, resnet18, tmp_path, monkeypatch):
    """Call the program with options; torchvision's table of weights names our server."""
    server.content = resnet18.read_bytes()
    digest = hashlib.sha256(server.content).hexdigest()[:8]
    url = f"{server.address}/models/resnet18-{digest}.pth"
    published = SimpleNamespace(IMAGENET1K_V1=SimpleNamespace(url=url))
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda arch: published)
    spec = importlib.util.spec_from_file_location("get_weights", PROGRAMS / "get_weights.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)

    def run(*options):
        out = tmp_path / "out" / "resnet18.pth"
        arguments = ["--arch", "resnet18", "--out", str(out), *options]
        monkeypatch.setattr(sys, "argv", ["get_weights.py", *arguments])
        program.main()
        backbone, _ = build_backbone("resnet18")
        load_backbone_weights(backbone, out)
        assert out.read_bytes() == server.content
        assert sorted(path.name for path in out.parent.iterdir()) == [
            "resnet18.pth",
            "resnet18.pth.sha256",
        ]

    return run


def test_weights_are_downloaded_verified_and_load(server, get_weights):
    """Would catch weights from another address than torchvision's, or a download that starts again."""
    server.plan = ["cut", 404]
    with pytest.raises(SystemExit):
        get_weights()
    get_weights()
    assert all(path.startswith("/models/resnet18-") for path in server.paths)
    assert server.requests[-1].startswith("bytes=2")
    assert server.sent == len(server.content)


def test_weights_of_other_content_are_refused(server, get_weights, tmp_path, capsys):
    """Would catch weights that are not compared with the digits in their file name."""
    server.content = server.content[:-1] + b"!"
    with pytest.raises(SystemExit):
        get_weights()
    assert "sha256 is" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_weights_from_a_mirror_or_a_local_file(server, get_weights, resnet18, capsys):
    """Would catch a local copy that is used only after the network failed, or is not verified."""
    get_weights("--url", f"{server.address}/ours.pth")
    assert server.paths == ["/ours.pth"]
    get_weights("--local", str(resnet18))
    assert server.paths == ["/ours.pth"]
    with pytest.raises(SystemExit):
        get_weights("--local", __file__)
    assert "sha256 is" in capsys.readouterr().err
