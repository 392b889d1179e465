"""Embeds the photographs of many requests: decoded side by side, embedded together.

A batch has what waits. It is not held for photographs that may come, only for those that are being decoded, and
not for long. Threads that embed compute each with as many threads as the model was trained with, because sums
depend on it; there are as many as fit the cores, and those that are free share what waits.
"""

import os
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import torch

# Photographs of an enrolment that are embedded together, so that photographs to name need not wait long.
ENROLLED_TOGETHER = 16
# Seconds that a photograph waits for others that are being decoded. A network computes a few photographs
# together in little more time than one, but a large one takes long to decode.
HELD = 0.03


class Full(Exception):
    """Too many photographs wait. ``seconds``: when to come again."""

    def __init__(self, seconds):
        super().__init__(f"too many photographs wait; come again in {seconds} s")
        self.seconds = seconds


class _Parcel:
    """Photographs of one request that are embedded in one batch."""

    def __init__(self, paths, how):
        self.paths, self.how, self.future = paths, how, Future()
        self.found, self.left = [None] * len(paths), len(paths)

    @property
    def crops(self):
        return [one for one in self.found if not isinstance(one, str)]


class Engine:
    """Threads that embed with a `TrainedModel`, whose cast weights are kept. Close it at the end.

    ``judge(embeddings (n, dim), *how)``: n answers; ``most``: photographs that may wait; ``max_pixels``: of a
    photograph.
    """

    def __init__(self, model, judge, *, most, max_pixels):
        self.model, self.judge, self.most, self.max_pixels = model, judge, most, max_pixels
        model.keep_cast_weights()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self.workers = max(1, cores // model.threads) if model.device.type == "cpu" else 1
        self._ready, self._changed = deque(), threading.Condition()
        self._decoding, self._free = 0, 0
        self._waiting, self._pace, self._closed = 0, 0.1, False
        self._decoders = ThreadPoolExecutor(cores, "decode")
        self._threads = [
            threading.Thread(target=self._work, name=f"embed-{index}", daemon=True)
            for index in range(self.workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self):
        """Photographs that wait or are at work."""
        return self._waiting

    def submit(self, paths, how=None):
        """Futures of parts of the photographs, in order: each of a list of answers or problems (str).

        ``how``: what `judge` is told; None: the answers are the embeddings (dim,). A part is embedded in one
        batch. Raises `Full` if others wait already and these are too many; a
        request that comes alone is always taken.
        """
        step = self.model.at_a_time
        parcels = [
            _Parcel(paths[start : start + step], how) for start in range(0, len(paths), step)
        ]
        with self._changed:
            if self._waiting and self._waiting + len(paths) > self.most:
                raise Full(max(1, round(self._waiting * self._pace)))
            self._waiting += len(paths)
            self._decoding += len(paths)
        for parcel in parcels:
            for position in range(len(parcel.paths)):
                self._decoders.submit(self._decode, parcel, position)
        return [parcel.future for parcel in parcels]

    def answer(self, paths, seconds, how=None):
        """({position: answer}, {position: problem}) of photographs; TimeoutError after ``seconds``.

        ``how``: see `submit`, as also for `Full`.
        """
        answers, problems, start = {}, {}, 0
        end = time.monotonic() + seconds
        futures = self.submit(paths, how)
        try:
            for future in futures:
                found = future.result(max(0, end - time.monotonic()))
                for position, one in enumerate(found, start):
                    (problems if isinstance(one, str) else answers)[position] = one
                start += len(found)
        finally:
            for future in futures:
                future.cancel()
        return answers, problems

    def embed_in_turn(self, paths, seconds):
        """Embeddings as `answer` has them, some at a time: photographs of other requests come in between."""
        embeddings, problems = {}, {}
        for start in range(0, len(paths), ENROLLED_TOGETHER):
            found = self.answer(paths[start : start + ENROLLED_TOGETHER], seconds)
            for all_, some in zip((embeddings, problems), found, strict=True):
                all_.update({start + position: one for position, one in some.items()})
        return embeddings, problems

    def close(self):
        """End the threads; what waits is given up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._decoders.shutdown(wait=True, cancel_futures=True)
        for thread in self._threads:
            thread.join()

    def _decode(self, parcel, position):
        try:
            # A request that was given up is not decoded.
            gone = parcel.future.cancelled()
            found = "given up" if gone else self.model.crop(parcel.paths[position], self.max_pixels)
        except BaseException as error:
            found = f"{parcel.paths[position]}: {error!r}"
        with self._changed:
            parcel.found[position] = found
            parcel.left -= 1
            self._decoding -= 1
            if not parcel.left:
                self._ready.append(parcel)
            if not (parcel.left and self._decoding):
                self._changed.notify_all()

    def _next(self):
        """Parcels for one batch, or None at the end."""
        with self._changed:
            self._free += 1
            # Another thread may take what was ready while this one holds the batch.
            while not self._ready and not self._closed:
                self._changed.wait_for(lambda: self._ready or self._closed)
                self._changed.wait_for(self._complete, HELD)
            if self._closed:
                return None
            # Threads that are free share what is ready.
            ready = sum(len(one.paths) for one in self._ready)
            share = min(self.model.at_a_time, -(-ready // self._free))
            self._free -= 1
            taken, size = [], 0
            while self._ready and (not taken or size + len(self._ready[0].paths) <= share):
                taken.append(self._ready.popleft())
                size += len(taken[-1].paths)
            return taken

    def _complete(self):
        """Whether nothing is being decoded that could join a batch."""
        return self._closed or not self._decoding or not self._ready

    def _work(self):
        # Torch keeps the number of threads for each thread.
        torch.set_num_threads(self.model.threads)
        while (parcels := self._next()) is not None:
            begun = time.monotonic()
            wanted = [one for one in parcels if one.future.set_running_or_notify_cancel()]
            try:
                self._embed(wanted)
            except BaseException as error:
                for parcel in wanted:
                    if not parcel.future.done():
                        parcel.future.set_exception(error)
            count = sum(len(one.paths) for one in parcels)
            with self._changed:
                self._waiting -= count
                pace = (time.monotonic() - begun) / count / self.workers
                self._pace += 0.2 * (pace - self._pace)

    def _embed(self, parcels):
        crops = [crop for parcel in parcels for crop in parcel.crops]
        vectors = self.model.embed_crops(crops) if crops else ()
        asked = [parcel.how for parcel in parcels for _ in parcel.crops]
        answers = list(vectors)
        for how in set(asked) - {None}:
            rows = [row for row, other in enumerate(asked) if other == how]
            for row, answer in zip(rows, self.judge(vectors[rows], *how), strict=True):
                answers[row] = answer
        left = iter(answers)
        for parcel in parcels:
            parcel.future.set_result(
                [one if isinstance(one, str) else next(left) for one in parcel.found]
            )
