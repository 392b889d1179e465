"""Prefetched batches: all of them, in order, and no thread is left."""

import contextlib
import threading
import time
from types import SimpleNamespace

import pytest
import torch

from dmlstudy.compute import prefetch
from dmlstudy.compute.devices import fits, send
from dmlstudy.compute.prefetch import DEPTH, made_ahead

CPU = torch.device("cpu")


def numbers(count, made=None):
    for number in range(count):
        if made is not None:
            made.append(number)
        yield (torch.tensor(number),)


def test_order_and_number_stay():
    """Would catch a batch that is lost, repeated or out of order."""
    assert [int(one) for (one,) in made_ahead(numbers(50), CPU)] == list(range(50))
    assert list(made_ahead(iter(()), CPU)) == []


def test_only_a_few_are_made_ahead():
    """Would catch a whole epoch of images in memory."""
    made = []
    reader = made_ahead(numbers(50, made), CPU)
    next(reader)
    deadline = time.monotonic() + 60
    while len(made) < DEPTH + 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(made) <= DEPTH + 2
    reader.close()


def test_an_error_reaches_the_training():
    """Would catch an epoch that ends early or waits for ever if a batch fails."""

    def failing():
        yield (torch.tensor(0),)
        raise ValueError("no such image")

    reader = made_ahead(failing(), CPU)
    next(reader)
    with pytest.raises(ValueError, match="no such image"):
        next(reader)


def test_the_thread_ends_with_its_reader():
    """Would catch threads that accumulate, one for each training that diverged."""
    before = threading.active_count()
    reader = made_ahead(numbers(1000), CPU)
    next(reader)
    assert threading.active_count() == before + 1
    reader.close()
    assert threading.active_count() == before


def test_a_pack_goes_where_there_is_room(monkeypatch):
    """Would catch a pack that leaves no memory for the training, or stays on the host without need."""
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 200))
    assert fits(60, gpu, 40)
    assert not fits(60, gpu, 41)
    assert fits(10**15, CPU)


def test_sending_to_where_it_is_copies_nothing():
    """Would catch a copy of the whole pack into memory, on a machine without a GPU."""
    tensor = torch.arange(3)
    assert send(tensor, CPU) is tensor


class Stream:
    """A fake CUDA stream whose events record when they are waited for."""

    made = 0

    def __init__(self, waits):
        self.waits, self.recorded = waits, 0
        Stream.made += 1

    def record_event(self):
        self.recorded += 1
        number = self.recorded
        return SimpleNamespace(synchronize=lambda: self.waits.append(number))

    def wait_stream(self, stream):
        self.waits_for = stream

    def wait_event(self, event):
        pass


def test_batches_share_a_stream_and_the_host_does_not_run_away(monkeypatch):
    """Would catch a new stream for each epoch, or memory full of waiting batches."""
    waits = []
    current = Stream(waits)
    prefetch._stream.cache_clear()
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream([]))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    Stream.made = 0
    behind = []
    for _ in range(3):
        for number, _ in enumerate(made_ahead(numbers(10), torch.device("cuda"))):
            behind.append(number - len(waits))
        waits.clear()
        current.recorded = 0
    prefetch._stream.cache_clear()
    assert Stream.made == 1
    assert max(behind) <= DEPTH
    assert min(behind) >= 0
