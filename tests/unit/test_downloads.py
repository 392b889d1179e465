"""Downloads from a local server that misbehaves on request."""

import hashlib
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
import torchvision
from loopback import Hub, Server
from safetensors.torch import save_file

from dmlstudy.compute.embedding_model import build_backbone
from dmlstudy.compute.weight_files import load_backbone_weights
from dmlstudy.core import console
from dmlstudy.core.files import StudyError
from dmlstudy.core.registry import backbone_file_name
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


VIT = "timm/test_vit.r160_in1k"
COMMIT, NEWER = "1" * 40, "2" * 40


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory):
    """A file of ResNet18's weights, as torchvision publishes them."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def test_vit(tmp_path_factory):
    """A file of the weights of timm's smallest ViT, as its hub has them."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit").state_dict(), path)
    return path


@pytest.fixture
def get_weights(tmp_path, monkeypatch):
    """The program; call it with a backbone and its options. Returns what it wrote of the source."""
    spec = importlib.util.spec_from_file_location("get_weights", PROGRAMS / "get_weights.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)

    def run(backbone, *options, kind="published"):
        out = tmp_path / "out" / f"{backbone_file_name(backbone)}.weights"
        arguments = ["--backbone", backbone, "--kind", kind, "--out", str(out), *options]
        monkeypatch.setattr(sys, "argv", ["get_weights.py", *arguments])
        program.main()
        load_backbone_weights(build_backbone(backbone, 64), out)
        assert sorted(path.name for path in out.parent.iterdir()) == [
            out.name,
            f"{out.name}.json",
            f"{out.name}.sha256",
        ]
        source = json.loads(Path(f"{out}.json").read_text())
        assert source["backbone"] == backbone
        assert source["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
        return source

    return run


@pytest.fixture
def torchvisions(server, resnet18, monkeypatch):
    """A server that has the weights of torchvision's table."""
    server.content = resnet18.read_bytes()
    digest = hashlib.sha256(server.content).hexdigest()[:8]
    url = f"{server.address}/models/resnet18-{digest}.pth"
    published = SimpleNamespace(IMAGENET1K_V1=SimpleNamespace(url=url))
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda name: published)
    return server


def test_weights_are_downloaded_verified_and_load(torchvisions, get_weights):
    """Would catch weights from another address than torchvision's, or a download that starts again."""
    torchvisions.plan = ["cut", 404]
    with pytest.raises(SystemExit):
        get_weights("resnet18")
    source = get_weights("resnet18")
    assert all(path.startswith("/models/resnet18-") for path in torchvisions.paths)
    assert torchvisions.requests[-1].startswith("bytes=2")
    assert torchvisions.sent == len(torchvisions.content)
    assert source["addresses"] == [f"{torchvisions.address}{torchvisions.paths[0]}"]


def test_weights_of_other_content_are_refused(torchvisions, get_weights, tmp_path, capsys):
    """Would catch weights that are not compared with the digits in their file name."""
    torchvisions.content = torchvisions.content[:-1] + b"!"
    with pytest.raises(SystemExit):
        get_weights("resnet18")
    assert "sha256 is" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_weights_from_a_mirror_or_a_local_file(torchvisions, get_weights, resnet18, capsys):
    """Would catch a local copy that is used only after the network failed, or is not verified."""
    get_weights("resnet18", "--url", f"{torchvisions.address}/ours.pth")
    assert torchvisions.paths == ["/ours.pth"]
    get_weights("resnet18", "--local", str(resnet18))
    assert torchvisions.paths == ["/ours.pth"]
    with pytest.raises(SystemExit):
        get_weights("resnet18", "--local", __file__)
    assert "sha256 is" in capsys.readouterr().err


def test_file_of_ones_own_needs_its_sha256_at_an_address_only(
    server, get_weights, resnet18, tmp_path, capsys
):
    """Bytes of the network that nobody verified, or a local file that needs a table entry."""
    server.content = resnet18.read_bytes()
    address, right = f"{server.address}/w?key=secret", hashlib.sha256(server.content).hexdigest()
    with pytest.raises(SystemExit):
        get_weights("resnet18", "--url", address, kind="file")
    assert "needs the SHA-256" in capsys.readouterr().err
    assert server.paths == []
    with pytest.raises(SystemExit):
        get_weights("resnet18", "--url", address, "--sha256", "0" * 64, kind="file")
    assert "sha256 is" in capsys.readouterr().err
    source = get_weights("resnet18", "--url", address, "--sha256", right, kind="file")
    assert "secret" not in json.dumps(source)
    options = ["--local", str(resnet18), "--log", str(tmp_path / "log")]
    assert get_weights("resnet18", *options, kind="file")["local"] == "resnet18.pth"
    assert "not verified" in (tmp_path / "log").read_text()
    with pytest.raises(SystemExit):
        get_weights("resnet18", "--local", str(resnet18), "--sha256", "0" * 64, kind="file")
    with pytest.raises(SystemExit):
        get_weights("resnet18", "--local", "not/there.pth", kind="file")
    assert "not/there.pth: not there" in capsys.readouterr().err


@pytest.fixture
def hub(test_vit, monkeypatch):
    """A model hub with one repository, and another server that has its large files."""
    hub, files = Hub(test_vit.read_bytes()), Server(test_vit.read_bytes())
    hub.location = f"{files.address}/signed/123"
    hub.commits = [COMMIT]
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        hub.address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    hub.large = files
    yield hub
    hub.close()
    files.close()


def test_weights_of_the_hub_are_pinned_verified_and_go_on_after_a_break(hub, get_weights, capsys):
    """A revision that nobody knows afterwards, or a broken transfer that begins anew."""
    hub.large.plan = ["cut", 404]
    with pytest.raises(SystemExit):
        get_weights(VIT)
    source = get_weights(VIT)
    assert source["repository"] == "timm/test_vit.r160_in1k"
    assert source["file"] == "model.safetensors"
    assert source["revision"] == COMMIT
    assert f"newest commit is {COMMIT}" in capsys.readouterr().err
    assert hub.large.sent == len(hub.content)
    assert hub.large.requests[-1].startswith("bytes=")
    # The newest is asked for once; bytes are those of its commit, whatever comes after.
    paths = [path for path in hub.paths if "/resolve/" in path]
    assert paths[0] == "HEAD /timm/test_vit.r160_in1k/resolve/main/model.safetensors"
    assert all(f"/resolve/{COMMIT}/" in path for path in paths if path.startswith("GET"))


def test_hub_that_moves_on_gives_the_pinned_commit_or_begins_anew(hub, get_weights, capsys):
    """Halves of two commits in one file, or newer weights under a pinned commit's name."""
    hub.large.plan = ["cut", 404]
    with pytest.raises(SystemExit):
        get_weights(VIT)
    # One byte of the weights is another.
    newer = hub.content[:-1] + bytes([hub.content[-1] ^ 1])
    hub.commits.append(NEWER)
    hub.content = hub.large.content = newer
    assert get_weights(VIT)["revision"] == NEWER
    capsys.readouterr()
    # The pinned one is still there, with other content than this server's: refused, not renamed.
    assert get_weights(VIT, "--revision", NEWER)["revision"] == NEWER
    assert "newest commit" not in capsys.readouterr().err
    hub.large.content = hub.content[:-1] + b"!"
    with pytest.raises(SystemExit):
        get_weights(VIT, "--revision", NEWER)
    assert "sha256 is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("trouble", "options", "words"),
    [
        ("no repository", [], "the hub has no repository timm/test_vit.r160_in1k"),
        ("no file", [], "the repository has no file model.safetensors"),
        (None, ["--revision", "3" * 40], f"the repository has no commit {'3' * 40}"),
        ("no commit", [], "names no commit"),
        ("other commit", ["--revision", COMMIT], "answers with commit"),
        ("no digest", [], "states no SHA-256"),
        ("gated", [], "terms that must be accepted"),
        (500, [], "cannot be reached"),
        (None, ["--sha256", "0" * 64], "was expected"),
    ],
)
def test_what_the_hub_cannot_give_is_said_in_words(
    hub, get_weights, capsys, trouble, options, words
):
    """A traceback from inside a library, or weights without anything to verify them."""
    hub.trouble = trouble
    with pytest.raises(SystemExit):
        get_weights(VIT, *options)
    assert words in capsys.readouterr().err
    assert not hub.large.paths


def test_without_a_network_a_folder_takes_the_hubs_place(
    test_vit, get_weights, monkeypatch, capsys
):
    """A machine without a network on which timm's models cannot be used."""
    assert get_weights(VIT, "--local", str(test_vit.parent))["local"] == "model.safetensors"
    get_weights(VIT, "--local", str(test_vit))
    digest = hashlib.sha256(test_vit.read_bytes()).hexdigest()
    get_weights(VIT, "--local", str(test_vit), "--sha256", digest)
    with pytest.raises(SystemExit):
        get_weights(VIT, "--local", str(test_vit), "--sha256", "0" * 64)
    with pytest.raises(SystemExit):
        get_weights(VIT, "--local", str(test_vit.parent.parent))
    assert "it should be a copy of timm/test_vit.r160_in1k" in capsys.readouterr().err
    # Nobody listens there.
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )
    with pytest.raises(SystemExit):
        get_weights(VIT)
    assert "give a local file or folder" in capsys.readouterr().err
