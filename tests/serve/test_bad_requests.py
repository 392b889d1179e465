"""Whatever is sent, the service says what is wrong, and goes on."""

import io
import json
import socket
import threading
import time

import httpx
import numpy as np
import pytest
from helpers import noise
from PIL import Image
from tiny_service import Client, photographs_of, sent, wait_for

from dmlstudy.use.service import server


@pytest.fixture
def service(serve):
    return serve(photographs=20, megabytes=1, photograph_megabytes=1, pixels=1_000_000, silence=0.5)


def png(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def everything(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


def test_bad_uploads(service, run):
    """Would catch a traceback, a file that a client's name leads out of its folder, and a request without an
    end; each with a sentence that names the photograph."""
    good = photographs_of(run, 0)[0].read_bytes()
    cases = {
        "truncated": ([("a.png", good[:300])], 422, "a.png: "),
        "no image": ([("a.jpg", b"<script>alert(1)</script>")], 422, "not an image"),
        "empty": ([("a.jpg", b"")], 422, "the file is empty"),
        "many pixels": ([("a.png", png(Image.new("RGB", (1001, 1000))))], 422, "more than the limit"),
        "long and narrow": ([("a.png", png(Image.new("RGB", (1, 3000))))], 422, "too long and narrow"),
        "thousands": ([(f"{index}.png", b"x") for index in range(2000)], 413, "more than 20 photographs"),
        "large request": ([("a.png", bytes(2_500_000))], 413, "more than 1 MB"),
        "nothing": ([], 4, ""),
    }  # fmt: skip
    before = everything(run.parent)
    for name, (files, status, words) in cases.items():
        answer = service.client.post("/api/name", files=[("photographs", one) for one in files])
        assert str(answer.status_code).startswith(str(status)), (name, answer.text)
        assert words in answer.json()["detail"], (name, answer.text)
        assert str(run.parent) not in answer.text
    for name in ("../../../etc/passwd", "/etc/passwd", "..\\passwd", "\0passwd"):
        answers = service.client.post("/api/name", files=[("photographs", (name, good))]).json()
        assert answers["answers"][0]["photograph"].endswith("passwd")
        assert "/" not in answers["answers"][0]["photograph"]
    assert everything(run.parent) == before
    assert service.name([photographs_of(run, 0)[0]])[0]["class_name"] == "class 0"


def test_bad_forms_and_names(service, run):
    """Would catch a class without a readable name, and a body that is not what it says."""
    files = sent(photographs_of(run, 4)[:1])
    for name in ("", "   ", "two\nlines", "x" * 201, "a\u202eb", "nul\0l"):
        answer = service.client.post("/api/classes", files=files, data={"class_name": name})
        assert answer.status_code == 422, name
        assert "class name" in answer.json()["detail"]
    assert service.client.post("/api/classes", files=files).status_code == 422
    # A file in place of a text.
    other = [*files, ("source", ("a.txt", b"x"))]
    answer = service.client.post("/api/classes", files=other, data={"class_name": "new"})
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "source: must be a text, not a file",
    )
    head = {"content-type": "multipart/form-data; boundary=x"}
    for content, headers, status in (
        (b"{}", {"content-type": "application/json"}, 415),
        (b"no form at all", head, 400),
        (b"--x\r\nContent-Disposition: form-data; name=photographs; filename=a\r\n\r\nabc", head, 400),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--x--\r\n", head, 400),
        (b"", {"content-type": "multipart/form-data"}, 400),
    ):  # fmt: skip
        answer = service.client.post("/api/name", content=content, headers=headers)
        assert answer.status_code in (status, 422), answer.text
        assert answer.json()["detail"]
    for path in ("/api/photographs/99999", "/api/photographs/..%2f..%2fmodel.pt", "/api/doubts/..%2fx/photograph",
                 "/..%2f..%2fpage.py", "/page/../api.py", "/api/nothing"):  # fmt: skip
        assert service.get(path).status_code in (404, 422), path
    assert (
        service.client.post("/api/name", params={"neighbours": 0}, files=files).status_code == 422
    )
    assert service.client.patch("/api/classes/77", json={"class_name": "a"}).status_code == 404
    assert service.classes().keys() == {f"class {index}" for index in range(4)}


def test_bodies_of_json(serve):
    """Would catch a body of JSON that takes fifty times its size in memory, an answer that repeats it all, and a
    service that fails over its own error: NaN and half a surrogate pair are not JSON."""
    service = serve(megabytes=20)
    head = {"content-type": "application/json"}
    for content, status, words in (
        (b'{"class_name": NaN}', 422, "body.class_name: "),
        (b'{"class_name": {"a": "\\ud800"}}', 422, "body.class_name: "),
        (b'"\\ud800"', 422, "body: "),
        (b"[]", 422, "body: "),
        (b"{", 422, "JSON"),
        (b'{"\\ud800": 1}', 422, "body.class_name: "),
        (b'{"class_name": [' + b"{}," * 10_000 + b"{}]}", 422, "body.class_name: "),
        (b'{"class_name": [' + b"{}," * 50_000 + b"{}]}", 413, "more than 100 kB"),
    ):
        answer = service.client.patch("/api/classes/0", content=content, headers=head)
        assert answer.status_code == status, answer.text
        assert words in answer.json()["detail"]
        assert len(answer.text) < 500
    # Without a length, and not as JSON.
    for headers in (head, {"content-type": "text/plain"}):
        pieces = (b" " * 50_000 for _ in range(3))
        answer = service.client.patch("/api/classes/0", content=pieces, headers=headers)
        assert answer.status_code == 413, answer.text
    answer = service.client.post("/api/name?neighbours=many")
    assert answer.json()["detail"].startswith("query.neighbours: ")


def raw(service, content, *, most=20, then=b""):
    """What the service answers to bytes on a connection, until it closes; ``then``: sent slowly after them."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=most) as connection:
        connection.sendall(content)
        received = b""
        connection.settimeout(0.1)
        end = time.monotonic() + most
        while time.monotonic() < end:
            try:
                some = connection.recv(65536)
            except TimeoutError:
                if then:
                    connection.sendall(then[:1])
                    then = then[1:]
                continue
            except ConnectionError:
                break
            if not some:
                break
            received += some
        else:
            raise AssertionError(f"still open: {received!r}")
    return received


def test_slow_clients_time_out(serve, run, monkeypatch):
    """Would catch clients that hold a connection for ever: without headers, with some, or with half a body."""
    monkeypatch.setattr(server, "HEADERS", 0.5)
    service = serve(silence=0.4, upload=1.2)
    head = b"POST /api/name HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    assert raw(service, b"") == b""
    assert raw(service, b"GET / HTTP/1.1\r\nHost:") == b""
    # A second request of a kept connection, a byte now and then.
    first = b"GET /page.css HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    assert b" 200 " in raw(service, first, then=b"G" * 900).split(b"\r\n")[0]
    half = head + b"Content-Length: 1000\r\n\r\n--x\r\n"
    assert b" 408 " in raw(service, half).split(b"\r\n")[0]
    # A byte now and then does not help.
    assert b" 408 " in raw(service, half, then=b"y" * 900).split(b"\r\n")[0]
    assert b" 400 " in raw(service, b"\x16\x03\x01\0\0\0 no http\r\n\r\n").split(b"\r\n")[0]
    assert service.name(photographs_of(run, 0)[:1])[0]["class_name"] == "class 0"
    assert list((run / "index_enrolled_files").glob(".incoming.*/*")) == []


def test_overload_is_told(serve, run):
    """Would catch requests that wait for ever, a refusal without a time to come again, and a service that
    does not recover."""
    service = serve(waiting=3, requests=6)
    engine, go = service.desk.engine, threading.Event()
    embed = engine.model.embed_crops
    engine.model.embed_crops = lambda crops: go.wait(60) and embed(crops)
    photos, statuses = photographs_of(run, 0), []

    def ask():
        answer = httpx.post(
            f"{service.address}/api/name", files=sent(photos[:1]), timeout=60, trust_env=False
        )
        statuses.append((answer.status_code, answer.headers.get("retry-after")))

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    wait_for(lambda: engine.waiting == 3)
    refused = service.client.post("/api/name", files=sent(photos[:1]))
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert "wait" in refused.json()["detail"]
    # What needs no model is answered.
    assert service.get("/api/status").json()["waiting"] == 3
    service.desk.engine.most = 100
    more = [threading.Thread(target=ask) for _ in range(3)]
    for asker in more:
        asker.start()
    wait_for(lambda: engine.waiting == 6)
    refused = service.client.post("/api/name", files=sent(photos[:1]))
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    go.set()
    for asker in askers + more:
        asker.join()
    assert statuses == [(200, None)] * 6
    assert service.name(photos)[0]["known"]
    wait_for(lambda: engine.waiting == 0)


def test_heat_maps_leave_threads_to_naming(serve, run, tmp_path):
    """Would catch heat maps that wait in all threads that answer requests, so that naming waits for them; one that
    is refused without a time to come again; and a place that is not free again after a map, or after an error."""
    service = serve(requests=4)
    maps, go, answers = service.desk.heat_maps, threading.Event(), []
    heat, photos = maps._heat, photographs_of(run, 0)
    maps._heat = lambda *given: go.wait(60) and heat(*given)

    def ask(photo=photos[0]):
        files = sent([photo])
        answers.append(
            httpx.post(f"{service.address}/api/heatmap", files=files, timeout=60, trust_env=False)
        )

    askers = [threading.Thread(target=ask) for _ in range(6)]
    for asker in askers:
        asker.start()
    # Half of the threads are left.
    wait_for(lambda: len(answers) == 4)
    for answer in answers:
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
    assert service.get("/api/status").status_code == 200
    assert service.name(photos)[0]["class_name"] == "class 0"
    assert len(answers) == 4
    go.set()
    for asker in askers:
        asker.join()
    assert [answer.status_code for answer in answers[4:]] == [200, 200]
    (tmp_path / "bad.png").write_bytes(b"no image")
    for photo, status in [(tmp_path / "bad.png", 422)] * 3 + [(photos[0], 200)]:
        ask(photo)
        assert answers[-1].status_code == status


def test_an_error_inside_is_told_and_survived(serve, run):
    """Would catch a thread that dies of one batch: every later request would hang."""
    service = serve(answer=1)
    model = service.desk.engine.model
    embed = model.embed_crops

    def broken(crops):
        raise MemoryError("no memory")

    model.embed_crops = broken
    answer = service.client.post("/api/name", files=sent(photographs_of(run, 0)[:1]))
    assert answer.status_code == 500
    assert "no memory" not in answer.text
    go = threading.Event()
    model.embed_crops = lambda crops: go.wait(60) and embed(crops)
    late = service.client.post("/api/name", files=sent(photographs_of(run, 0)[:1]))
    assert (late.status_code, late.headers["retry-after"]) == (503, "10")
    go.set()
    model.embed_crops = embed
    assert service.name(photographs_of(run, 0)[:1])[0]["known"]


def test_token(serve, run):
    """Would catch a way around the token, and a page that cannot ask for it."""
    service = serve(token="a token of some length")
    for headers in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "a token of some length"},
    ):
        for method, path in (("GET", "/api/status"), ("POST", "/api/name"), ("GET", "/api/photographs/0"),
                             ("DELETE", "/api/classes/0"), ("POST", "/api/undo")):  # fmt: skip
            answer = service.client.request(method, path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
    assert service.get("/").status_code == 200
    client = Client(service.address, authorization="Bearer a token of some length")
    assert client.name(photographs_of(run, 0)[:1])[0]["class_name"] == "class 0"
    # With a token, the service may have any name.
    assert client.get("/api/status", headers={"host": "birds.example"}).status_code == 200
    client.client.close()


def test_pages_of_other_sites_cannot_use_it(service):
    """Would catch a page elsewhere that enrols or reads through the browser of somebody on this machine."""
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"host": "evil.example"},
        {"origin": "http://["},
        {"host": "["},
        {"host": "evil.example", "origin": "http://evil.example"},
        {"sec-fetch-site": "cross-site"},
    ):
        for method, path in (("GET", "/api/status"), ("POST", "/api/undo"), ("GET", "/")):
            answer = service.client.request(method, path, headers=headers)
            assert answer.status_code == 403, headers
            assert answer.json()["detail"]
    own = {"origin": service.address, "sec-fetch-site": "same-origin"}
    answer = service.get("/api/status", headers=own)
    assert answer.status_code == 200
    assert "script-src 'self'" in answer.headers["content-security-policy"]


def test_description_of_the_api(service):
    """Would catch an address without a description, or a page that needs another site."""
    described = json.loads(service.get("/openapi.json").text)
    assert set(described["paths"]) == {
        "/api/status", "/api/name", "/api/classes", "/api/classes/{class_id}", "/api/history", "/api/undo",
        "/api/photographs/{image_id}", "/api/doubts", "/api/doubts/{doubt_id}", "/api/doubts/{doubt_id}/photograph",
        "/api/heatmap", "/api/thresholds", "/api/threshold", "/api/drift", "/api/removed",
    }  # fmt: skip
    for methods in described["paths"].values():
        for method in methods.values():
            assert method["description"]
    form = described["paths"]["/api/classes"]["post"]["requestBody"]["content"]
    assert "class_name" in form["multipart/form-data"]["schema"]["properties"]
    assert "http" not in service.get("/").text


def test_large_photographs_take_their_turn(serve, run):
    """Would catch a photograph whose decoded pixels stay in memory until its batch."""
    service = serve()
    image = noise(np.random.default_rng(0), 800, 600)
    crop = service.desk.engine.model.crop
    kept = []
    service.desk.engine.model.crop = lambda *given: kept.append(crop(*given)) or kept[-1]
    answer = service.client.post("/api/name", files=[("photographs", ("a.png", png(image)))])
    assert answer.status_code == 200
    assert kept[0].shape == (32, 32, 3)
    assert kept[0].base is None or kept[0].base.nbytes <= 32 * 32 * 3
