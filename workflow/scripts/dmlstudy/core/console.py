"""What a user sees: log files, progress bars, error messages."""

import logging
import os
import re
import sys
import time
import traceback

from dmlstudy.core.files import StudyError


def run(main, log=None):
    """Run ``main()`` as a program, with a log file ``log`` and warnings on the terminal.

    A `StudyError` is logged as a sentence, and so is a file that cannot be opened. Any other exception is
    logged with its traceback. All end the program with exit code 1. A ``log`` that exists is written
    over only if it is a log.
    """
    # A terminal may not know all letters. A name that it cannot show must not end what is done already.
    if getattr(sys.stdout, "errors", None) == "strict" and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    handlers = [logging.StreamHandler(sys.stderr)]
    handlers[0].setLevel(logging.WARNING)
    if log:
        try:
            handlers.append(_log_file(log))
        except (OSError, StudyError) as error:
            sys.exit(
                f"error: --log {log}: {error.strerror if hasattr(error, 'strerror') else error}"
            )
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers, force=True
    )
    logging.captureWarnings(True)
    # FAISS logs which of its builds it tries to load; users do not need that.
    logging.getLogger("faiss").setLevel(logging.WARNING)
    try:
        main()
    except StudyError as error:
        logging.error("error: %s", error)
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            logging.error("%s", traceback.format_exc().rstrip())
        else:
            # The traceback is only in the log file.
            logging.info("%s", traceback.format_exc().rstrip())
            logging.error("error: %s: %s", printable(os.fsdecode(error.filename)), error.strerror)
        sys.exit(1)
    except Exception:
        logging.error("%s", traceback.format_exc().rstrip())
        sys.exit(1)


def _log_file(log):
    """The handler that writes a log file; OSError if it cannot be opened, StudyError if it is no log."""
    os.makedirs(os.path.dirname(log) or ".", exist_ok=True)
    if os.path.isfile(log) and not log.endswith(".log"):
        with open(log, "rb") as stream:
            first = stream.readline(100)
        if first and not re.match(rb"\d{4}-\d\d-\d\d ", first):
            raise StudyError("this file exists and is not a log, so it is not written over")
    # Names of files need not be UTF-8.
    return logging.FileHandler(log, mode="w", encoding="utf-8", errors="backslashreplace")


def printable(text):
    """``text`` with control characters escaped (names of files and classes may contain them)."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


class _Bar:
    """Context manager that closes its progress bar, if there is one."""

    bar = None

    def close(self):
        if self.bar is not None:
            self.bar.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


class Progress(_Bar):
    """A progress bar in a terminal; otherwise a line in the log from time to time."""

    def __init__(self, total, title, unit, *, lines=20, done=0):
        """``total``: number of steps, or None if unknown; ``done``: steps that are done already."""
        self.total, self.title, self.unit = total, title, unit
        self.every = max(1, total // lines) if total else 1000
        self.done = done
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                total=total, initial=done, desc=title, unit=unit, leave=False, dynamic_ncols=True
            )

    def __call__(self, step=1, note=""):
        before, self.done = self.done, self.done + step
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(step)
        if before // self.every != self.done // self.every or self.done == self.total:
            count = f"{self.done} of {self.total}" if self.total else f"{self.done}"
            text = f"{self.title}: {count} {self.unit}"
            logging.info("%s %s", text, note) if note else logging.info("%s", text)


class Transfer(_Bar):
    """Progress of a download (size and time left): a bar in a terminal, otherwise lines in the log."""

    def __init__(self, title):
        self.title, self.begun, self.first, self.logged = title, None, 0, 0

    def __call__(self, done, total):
        """Report that ``done`` of ``total`` bytes have arrived; ``total`` is None if unknown."""
        if self.begun is None or done < self.first:
            # Bytes from an earlier attempt do not count for the speed.
            self.begun, self.first, self.logged = time.monotonic(), done, done
        if sys.stderr.isatty():
            self._draw(done, total)
        # A line per tenth, or per 100 MB.
        if done == total or done - self.logged >= (total // 10 if total else 100_000_000):
            self.logged = done
            logging.info("%s: %s", self.title, self._words(done, total))

    def _draw(self, done, total):
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(
                desc=self.title,
                total=total,
                initial=done,
                unit="B",
                unit_scale=True,
                leave=False,
                dynamic_ncols=True,
            )
        self.bar.update(done - self.bar.n)

    def _words(self, done, total):
        if not total:
            return f"{done / 1e6:.0f} MB"
        words = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB"
        seconds, fetched = time.monotonic() - self.begun, done - self.first
        if fetched and seconds and done < total:
            left = round((total - done) * seconds / fetched)
            words += f", {left // 60}:{left % 60:02} left"
        return words
