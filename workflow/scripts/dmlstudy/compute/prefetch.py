"""Prepare batches in a thread, ahead of their use."""

import collections
import functools
import queue
import threading

import torch

# Batches that wait in the queue. One more is in use, and one more is being made.
DEPTH = 2


@functools.cache
def _stream(device):
    """One CUDA stream for all prefetched batches, because memory is not reused between streams."""
    return torch.cuda.Stream(device)


def made_ahead(batches, device):
    """Yield the tuples of tensors of ``batches``; a thread makes them ahead of their use.

    Order and values do not change. On a GPU the batches are copied and computed in a separate stream. An
    exception in the thread is raised here. When the reader stops, the thread stops.
    """
    made, stopped = queue.Queue(DEPTH), threading.Event()
    stream = _stream(device) if device.type == "cuda" else None
    if stream:
        # Wait for constants that the batches use and that the current stream computes.
        stream.wait_stream(torch.cuda.current_stream(device))
    used = collections.deque()

    def put(item):
        while not stopped.is_set():
            try:
                return made.put(item, timeout=0.1)
            except queue.Full:
                continue

    def make():
        try:
            with torch.cuda.stream(stream):
                for batch in batches:
                    put((batch, stream.record_event() if stream else None))
                    if stopped.is_set():
                        return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            batch, event = item
            if event is not None:
                current = torch.cuda.current_stream(device)
                current.wait_event(event)
                for tensor in batch:
                    # The other stream must not reuse this memory before the current stream is done.
                    tensor.record_stream(current)
            yield batch
            if stream:
                used.append(current.record_event())
                # Do not run far ahead of the device: batches would fill its memory.
                if len(used) > DEPTH:
                    used.popleft().synchronize()
    finally:
        stopped.set()
        thread.join()
