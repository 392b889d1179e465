"""Programs that end at once when they are told to, whatever they are computing.

Nothing here can change a number, so editing it trains nothing again (see `source_code.NOT_FOLLOWED`).
"""

import logging
import os
import signal
import socket
import threading


def end_at_signals():
    """From now on SIGTERM and SIGINT end this process, with a line in the log and exit code 143 or 130.

    Python would run a handler, or raise KeyboardInterrupt, only when the operation at hand returns, which
    takes a training step many seconds on a CPU. Nothing is tidied up: files appear whole or not at all,
    and the next attempt removes what was begun. Call it in the main thread.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    def end():
        with reader, writer:
            number = reader.recv(1)[0]
        # Whatever keeps the log from being written.
        threading.Timer(2, os._exit, [128 + number]).start()
        logging.warning("ended by %s", signal.Signals(number).name)
        os._exit(128 + number)

    threading.Thread(target=end, daemon=True).start()
