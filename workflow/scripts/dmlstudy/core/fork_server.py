"""Import packages once, then start programs as forks; `start.py` starts this and sends the requests.

Only packages are imported here, nothing of this study, so that a program's own code is read when the
program starts. The server ends with the process that it works for (Snakemake), or when there was nothing
to do for a minute (or DML_FORK_SERVER_IDLE seconds), but not before the programs that it has started.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
import threading
import warnings
from functools import partial

import psutil

# As in the programs: on a shared machine, waiting threads that spin slow everything down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# As in `compute/devices.py`; torch reads it when it is imported.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# Of Numba's ways to make threads, the one that may be forked.
os.environ["NUMBA_THREADING_LAYER"] = "workqueue"

# So many seconds without work end the server.
IDLE_SECONDS = float(os.environ.get("DML_FORK_SERVER_IDLE", "60"))
# A minute for what takes a millisecond: a stopped process must not hold up the others.
REQUEST_SECONDS = 60
SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl


def main(listener, owner, *packages):
    # The folder of this file: its modules have names that packages use, too.
    del sys.path[0]
    for package in packages:
        importlib.import_module(package)
    if "umap" in packages:
        load_compiled_umap()
    # The programs get what a terminal sends, too; the server ends after them.
    signals = {
        n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    os.chdir("/")
    # The collector must not touch, and so copy, what the programs share.
    gc.freeze()
    request = serve(socket.socket(fileno=int(listener)), int(owner))
    if request:
        become(request, signals)


def load_compiled_umap():
    """Make a map of a few points as `evaluate.embedding_map` does, so that what UMAP compiles is in memory.

    Each map would load it from Numba's files, which takes half a second.
    """
    import numpy as np
    import umap
    from scipy.sparse import csr_matrix

    for function in (umap.umap_.smooth_knn_dist, umap.umap_.compute_membership_strengths):
        function.enable_caching()
    points = np.random.default_rng(0).random((12, 2), dtype=np.float32)
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    # With the zeros of the diagonal, as UMAP wants them.
    pairs = np.divmod(np.arange(distances.size), len(points))
    graph = csr_matrix((distances.ravel(), pairs), distances.shape)
    model = umap.UMAP(
        metric="precomputed",
        n_neighbors=4,
        init=points,
        n_epochs=1,
        random_state=0,
        transform_seed=0,
        n_jobs=1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(graph)
        model.transform(graph)


def serve(listener, owner):
    """Answer requests until the end. Returns a request in the process that was forked for it."""
    wake, wakes = socket.socketpair()
    for end in (wake, wakes, listener):
        end.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    programs = {}  # {process id: its connection}
    with selectors.DefaultSelector() as selector, listener, wake, wakes:
        for end in (listener, wake):
            selector.register(end, selectors.EVENT_READ)
        idle = 0
        while programs or (idle < IDLE_SECONDS and psutil.pid_exists(owner)):
            ready = [key.fileobj for key, _ in selector.select(timeout=1)]
            idle = 0 if ready else idle + 1
            if wake in ready:
                wake.recv(1000)
                report_ended(programs, selector)
            for connection in set(ready) & set(programs.values()):
                # The one who asked was killed, and the program with it, as if they were one process.
                selector.unregister(connection)
                kill(next(process for process, asked in programs.items() if asked is connection))
            if listener in ready and (request := started(listener, programs, selector)):
                signal.set_wakeup_fd(-1)
                return request
    return None


def started(listener, programs, selector):
    """Fork for the next request. Returns the request in the new process, None in the server."""
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return None
    try:
        request, descriptors = received(connection)
    except (OSError, ValueError):
        connection.close()
        return None
    with warnings.catch_warnings():
        # Newer Pythons warn of threads. Those of OpenBLAS may be forked; there are no others.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process == 0:
        for asked in [connection, *programs.values()]:
            asked.close()
        return {**request, "descriptors": descriptors}
    for descriptor in descriptors:
        os.close(descriptor)
    programs[process] = connection
    with contextlib.suppress(OSError):
        connection.sendall(struct.pack("i", process))
    selector.register(connection, selectors.EVENT_READ)
    return None


def received(connection):
    """(request, descriptors of stdin, stdout and stderr). Raises OSError or ValueError if it is cut off."""
    connection.settimeout(REQUEST_SECONDS)
    size, descriptors, _, _ = socket.recv_fds(connection, 8, 3)
    if len(size) < 8:
        raise ValueError("no request")
    (length,) = struct.unpack("Q", size)
    with connection.makefile("rb") as stream:
        return json.loads(stream.read(length)), descriptors


def report_ended(programs, selector):
    """Tell those who asked how their programs ended."""
    while programs:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process == 0:
            return
        connection = programs.pop(process)
        with contextlib.suppress(KeyError):
            selector.unregister(connection)
        with contextlib.suppress(OSError):
            connection.sendall(struct.pack("i", status))
        connection.close()


def kill(process):
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def become(request, signals):
    """Run the program of a request in this process, as if it had been started by the one who asked."""
    # Without the server, no one could report how the program ends.
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, handler in signals.items():
        signal.signal(number, handler)
    for standard, descriptor in enumerate(request["descriptors"]):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = (
        io.TextIOWrapper(
            io.open(number, mode, closefd=False),  # noqa: SIM115, UP020
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=number == 2 or os.isatty(number),
        )
        for number, mode, stream in zip(
            range(3), ("rb", "wb", "wb"), (sys.stdin, sys.stdout, sys.stderr), strict=True
        )
    )
    os.chdir(request["folder"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    program = request["arguments"][0]
    # For `top` and `ps`.
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as name:
        name.write(os.path.basename(program))
    sys.argv = request["arguments"]
    sys.path.insert(0, os.path.dirname(program))
    end(exit_code(partial(runpy.run_path, program, run_name="__main__")))


def exit_code(program):
    """The exit code of a function that runs as the main program."""
    try:
        program()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def end(code):
    """End this process as Python ends, but do not free its objects one by one, which copies them first.

    The standard library's multiprocessing ends its forks in the same way.
    """
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
