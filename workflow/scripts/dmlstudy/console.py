"""What a person sees: log files, progress bars, errors in words."""

import logging
import os
import sys
import traceback

from dmlstudy.files import StudyError


def run(main, log=None):
    """Run ``main()`` as a program: log to file ``log``; a `StudyError` ends it with a sentence.

    Anything else that goes wrong ends it with a traceback, in the log and on the terminal.
    """
    handlers = [logging.StreamHandler(sys.stderr)]
    handlers[0].setLevel(logging.WARNING)
    if log:
        os.makedirs(os.path.dirname(log) or ".", exist_ok=True)
        handlers.append(logging.FileHandler(log, mode="w", encoding="utf-8"))
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers, force=True
    )
    logging.captureWarnings(True)
    # Which of its own variants FAISS tries to load is of no interest to anybody.
    logging.getLogger("faiss").setLevel(logging.WARNING)
    try:
        main()
    except StudyError as error:
        logging.error("error: %s", error)
        sys.exit(1)
    except Exception:
        logging.error("%s", traceback.format_exc().rstrip())
        sys.exit(1)


def printable(text):
    """``text`` in one line without control characters, which a file or class may have in its name."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


class Progress:
    """A progress bar where a person watches, a plain line in the log now and then elsewhere."""

    def __init__(self, total, title, unit, *, lines=20):
        self.total, self.title, self.unit = total, title, unit
        self.every = max(1, total // lines)
        self.done = 0
        self.bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, desc=title, unit=unit, leave=False, dynamic_ncols=True)

    def __call__(self, step=1, note=""):
        before, self.done = self.done, self.done + step
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(step)
        if before // self.every != self.done // self.every or self.done == self.total:
            text = f"{self.title}: {self.done} of {self.total} {self.unit}"
            logging.info("%s %s", text, note) if note else logging.info("%s", text)

    def close(self):
        if self.bar is not None:
            self.bar.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


_transfer_bar = None


def transfer(done, total):
    """Progress of a download in bytes: a bar with size and time left, or a log line per 10 %."""
    global _transfer_bar
    if sys.stderr.isatty():
        from tqdm import tqdm

        if _transfer_bar is None:
            _transfer_bar = tqdm(total=total, unit="B", unit_scale=True, leave=False)
        _transfer_bar.update(done - _transfer_bar.n)
    elif total and (done == total or done * 10 // total != (done - (1 << 20)) * 10 // total):
        logging.info("%d of %d MB", done >> 20, total >> 20)
