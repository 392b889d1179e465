"""End a program at once on SIGTERM or SIGINT, even in the middle of a computation.

Nothing here can change a number, so an edit does not retrain anything (see `source_code.NOT_FOLLOWED`).
"""

import logging
import os
import signal
import socket
import threading


def end_at_signals():
    """From now on SIGTERM and SIGINT end this process, with a line in the log and exit code 143 or 130.

    Call it in the main thread. Without it, Python would handle the signal only after the current
    operation, and a training step on a CPU takes many seconds. Nothing is cleaned up: files are written
    atomically, and the next attempt removes temporary files.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    def end():
        with reader, writer:
            number = reader.recv(1)[0]
        # End even if writing the log hangs.
        threading.Timer(2, os._exit, [128 + number]).start()
        logging.warning("ended by %s", signal.Signals(number).name)
        os._exit(128 + number)

    threading.Thread(target=end, daemon=True).start()
