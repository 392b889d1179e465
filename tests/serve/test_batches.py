"""Which photographs the service embeds together."""

import os
import socket
import threading
import time

import numpy as np
import pytest
import torch

from dmlstudy.use.service import engine as engines
from dmlstudy.use.service.engine import Engine
from dmlstudy.use.service.server import listen

CORES = 2


class Network:
    """Stands for a `TrainedModel`: decoding waits for ``go[path]``; ``sizes`` of the batches."""

    device, at_a_time = torch.device("cpu"), 8

    def __init__(self, workers, paths):
        self.threads = CORES // workers
        self.go, self.sizes = {path: threading.Event() for path in paths}, []

    def keep_cast_weights(self):
        pass

    def crop(self, path, max_pixels):
        assert self.go[path].wait(60)
        return np.zeros(1)

    def embed_crops(self, crops):
        self.sizes.append(len(crops))
        return np.zeros((len(crops), 2), dtype=np.float32)


@pytest.fixture
def begin(monkeypatch):
    """begin(workers, paths): an `Engine` on two cores, when all its threads are free."""
    begun = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(CORES)), raising=False)

    def begin(workers, paths):
        model = Network(workers, paths)
        begun.append(Engine(model, None, most=100, max_pixels=100))
        while begun[-1]._free < begun[-1].workers:
            time.sleep(0.001)
        return begun[-1], model

    yield begin
    for one in begun:
        for event in one.model.go.values():
            event.set()
        one.close()


def test_a_photograph_waits_for_one_that_is_being_decoded(begin, monkeypatch):
    """Would catch batches of one photograph under load, which halve what the service can do."""
    monkeypatch.setattr(engines, "HELD", 60)
    engine, model = begin(1, "ab")
    futures = [engine.submit([path])[0] for path in "ab"]
    model.go["a"].set()
    while not engine._ready:
        time.sleep(0.001)
    model.go["b"].set()
    assert [len(one.result(60)) for one in futures] == [1, 1]
    assert model.sizes == [2]


def test_a_photograph_does_not_wait_long_for_one_that_is_being_decoded(begin):
    """Would catch small photographs that are answered only when a large one has been decoded."""
    engine, model = begin(1, "ab")
    futures = {path: engine.submit([path])[0] for path in "ab"}
    model.go["a"].set()
    assert len(futures["a"].result(60)) == 1
    assert model.sizes == [1]


def test_a_photograph_that_comes_alone_is_taken_at_once(begin, monkeypatch):
    """Would catch a service that waits for a batch to fill: with HELD of an hour this would not end."""
    monkeypatch.setattr(engines, "HELD", 3600)
    engine, model = begin(1, "a")
    model.go["a"].set()
    assert len(engine.submit(["a"])[0].result(60)) == 1


def test_free_threads_share_what_waits(begin, monkeypatch):
    """Would catch one thread that takes all photographs, while the other core has nothing to do."""
    monkeypatch.setattr(engines, "HELD", 60)
    engine, model = begin(2, "abcd")
    both = threading.Barrier(2, timeout=60)
    embed = model.embed_crops
    model.embed_crops = lambda crops: both.wait() + 1 and embed(crops)
    futures = [engine.submit([path])[0] for path in "abcd"]
    for event in model.go.values():
        event.set()
    for future in futures:
        future.result(60)
    assert sorted(model.sizes) == [2, 2]


def test_answers_are_sent_at_once():
    """Would catch a socket for which asyncio leaves Nagle's algorithm on: every answer would take 40 ms more."""
    opened = listen("127.0.0.1", 0)
    try:
        assert opened.proto == socket.IPPROTO_TCP
    finally:
        opened.close()
