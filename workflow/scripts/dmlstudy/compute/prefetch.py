"""Making batches ahead of their use."""

import collections
import functools
import queue
import threading

import torch

# Batches that wait at a time: one is being used, one is there, one is being made.
DEPTH = 2


@functools.cache
def _stream(device):
    """One stream for all batches made ahead: memory that was used in one is not used anew in another."""
    return torch.cuda.Stream(device)


def made_ahead(batches, device):
    """The tuples of tensors that ``batches`` yields, made by a thread while earlier ones are used.

    Order and values are those of ``batches``. On a GPU they are sent and worked on in a stream of their
    own, beside the training's. What goes wrong in the thread is raised here; when the reader stops, so
    does the thread.
    """
    made, stopped = queue.Queue(DEPTH), threading.Event()
    stream = _stream(device) if device.type == "cuda" else None
    if stream:
        # Constants that batches are made with were computed there.
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
                    # Its memory must not be used anew in the other stream before this one is done.
                    tensor.record_stream(current)
            yield batch
            if stream:
                used.append(current.record_event())
                # A host that is far ahead of the device would fill its memory with batches.
                if len(used) > DEPTH:
                    used.popleft().synchronize()
    finally:
        stopped.set()
        thread.join()
