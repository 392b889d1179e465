"""What a failed workflow prints last."""

import contextlib
import logging
import os
from types import SimpleNamespace

from dmlstudy.core import console
from dmlstudy.core.files import StudyError
from dmlstudy.plan.failures import LAST_LINES, MOST_JOBS, FailureReport, closing_text, error_of


def log_of(path, main):
    with contextlib.suppress(SystemExit):
        console.run(main, path)
    for handler in logging.getLogger().handlers:
        handler.close()
    return path


def raising(error):
    def main():
        logging.info("beginning")
        logging.warning("error: not the last one")
        raise error

    return main


def test_sentence_is_taken_whole_from_the_log(tmp_path):
    """Would catch a sentence of which only the first line is shown, or an earlier warning."""
    log = log_of(tmp_path / "a.log", raising(StudyError("a.jpg: broken\nrepair it")))
    assert error_of(log) == ("a.jpg: broken\nrepair it", [])


def test_log_without_a_sentence_shows_its_last_lines(tmp_path):
    """Would catch an unexpected error, or a killed job, of which nothing is said."""
    sentence, lines = error_of(log_of(tmp_path / "a.log", raising(ValueError("seven"))))
    assert sentence == "an unexpected error: ValueError: seven"
    assert 2 < len(lines) <= LAST_LINES
    killed = tmp_path / "killed.log"
    killed.write_text("2026-01-01 00:00:00,000 epoch 1\n2026-01-01 00:00:01,000 epoch 2\n")
    sentence, lines = error_of(killed)
    assert "memory" in sentence
    assert lines[-1].endswith("epoch 2")


def test_log_of_an_earlier_attempt_is_not_read(tmp_path):
    """Would catch yesterday's error of a job that does not even start today."""
    log = log_of(tmp_path / "a.log", raising(StudyError("yesterday")))
    os.utime(log, (1000, 1000))
    for path in (log, tmp_path / "missing.log"):
        assert error_of(path, since=2000)[0].startswith("the job ended before its program began")


def test_one_sentence_of_many_jobs_is_printed_once():
    """Would catch a screen full of one mistake, or a job that is not named."""
    jobs = [(f"Train {name}", f"{name}.log", "too large", []) for name in "abcdefg"]
    text = closing_text([*jobs, ("Pack", "p.log", "x.jpg: broken", [])])
    assert text.count("too large") == 1
    assert f"Train d; and {len(jobs) - MOST_JOBS} more jobs" in text
    assert text.splitlines()[-1].startswith("Next: correct these errors")
    assert text.index("Pack") < text.index("error: x.jpg: broken")


def test_errors_of_the_rule_files_are_repeated_without_their_places():
    """Would catch a sentence that stands above Snakemake's list of files and lines."""
    report = FailureReport()
    places = '\n  File "/p/common.smk", line 9, in <module>\n  File "/p/common.smk", line 3, in f'
    for text in (
        "At least one job did not complete successfully.",
        f'WorkflowError in file "/p/common.smk", line 3:\nmy.yaml: epochz: unknown\nkey{places}',
        'WorkflowError in file "/p/common.smk", line 3:\nanother',
    ):
        report.emit(logging.LogRecord("s", logging.ERROR, "", 0, text, None, None))
    first, *_, last = report.text.splitlines()
    assert first == "error: my.yaml: epochz: unknown"
    assert "common.smk" not in report.text
    assert "another" not in report.text
    assert last.startswith("Next: ")


def test_jobs_of_a_group_are_named_one_by_one(tmp_path):
    """Would catch a group whose jobs' errors are lost, or a job without a message or a log."""
    log = log_of(tmp_path / "a.log", raising(StudyError("wrong")))
    one = SimpleNamespace(message="Train a", log=[log], name="train")
    other = SimpleNamespace(message=None, log=[], name="track", wildcards_dict={"seed": "4"})
    report = FailureReport()
    report.jobs([SimpleNamespace(jobs=[one]), other])
    assert "Train a" in report.text
    assert "error: wrong" in report.text
    assert "track (seed 4)" in report.text
