"""Weights & Biases: what it is told of the study, in processes of their own.

The tracker's library may wait for a server, lose its service or be killed; nothing of that may
reach the study. So it is imported only by processes that do nothing else, that have no terminal to ask
at, and that are ended when they take too long.
"""

import contextlib
import csv
import hashlib
import multiprocessing
import os
import shutil
from pathlib import Path

from dmlstudy.core.canonical import canonical_json
from dmlstudy.core.files import read_json, write_json
from dmlstudy.track.live_curve import modified

KEY = "WANDB_API_KEY"
# Seconds that the tracker's process may take; the server's own limits are shorter.
TIMEOUTS = {"offline": 120, "online": 240}
CURVES = ("train_loss", "test_accuracy", "train_loss2", "test_accuracy2")
SCALARS = (
    "precision_drop_unseen_classes",
    "precision_drop_seen_classes",
    "precision_drop_all_classes",
)
# Columns of the study's tables that hold text; what looks like a number there is a class's name.
TEXT = ("class_name", "row")


class TrackerError(Exception):
    """Why nothing was tracked, in words. It never ends anything but the tracking."""


def run_id(project, what):
    """Id of a run, 16 hexadecimal digits: the same for the same project and plain values ``what``."""
    return hashlib.sha256(canonical_json([project, what]).encode()).hexdigest()[:16]


def headings(settings, what, job_type):
    """How W&B calls a run of ``what`` (a value of `Study.tracked`): id, name, group and the like."""
    words = [what["experiment"], f"seed {what['seed']}", what["class_set"]["name"]]
    if job_type == "training":
        words.append("training")
    return {
        "project": settings["project"],
        "entity": settings["entity"],
        "id": run_id(settings["project"], [job_type, what]),
        "name": ", ".join(words),
        # Dataset and experiment: two studies may share a project, and their experiments' names.
        "group": f"{what['results']['dataset']}: {what['experiment']}",
        "job_type": job_type,
        "config": what,
    }


def study_run(settings, what, all_classes, limited):
    """Everything that W&B is told of an experiment, seed and draw of unseen classes, as plain values.

    ``settings``: {"project", "entity"}; ``what``: a value of `Study.tracked`; ``all_classes`` and
    ``limited``: folders of the two finished runs. The names are those that the study uses.
    Returns `headings` with ``history`` (rows of the curves; missing points left out), ``tables``
    ({name: {"columns", "rows"}}) and ``summary``.
    """
    all_classes, limited = Path(all_classes), Path(limited)
    history = {}
    for folder, suffix in ((all_classes, ""), (limited, "2")):
        for row in read_curve(folder / "curves.csv"):
            point = history.setdefault(row["epoch"], {"epoch": row["epoch"]})
            for name in ("train_loss", "test_accuracy"):
                if name in row:
                    point[f"{name}{suffix}"] = row[name]
    files = {
        "all_classes_metrics": all_classes / "metrics.csv",
        "all_classes_classification_report": all_classes / "classification_report.csv",
        "limited_classes_metrics": limited / "metrics.csv",
        "limited_classes_classification_report": limited / "classification_report.csv",
        "comparison_unseen_classes_metrics": limited / "comparison_unseen_classes.csv",
        "comparison_seen_classes_metrics": limited / "comparison_seen_classes.csv",
    }
    scalars = read_json(limited / "scalars.json")
    return {
        **headings(settings, what, "study"),
        "history": [history[epoch] for epoch in sorted(history)],
        "tables": {name: read_table(path) for name, path in files.items()},
        "summary": {name: scalars[name] for name in SCALARS if scalars[name] is not None},
    }


def read_table(path):
    """A table of the study as {"columns": names, "rows": lists of text, numbers and None}."""
    with open(path, encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream)
        columns = next(reader)
        rows = [
            [
                value if column in TEXT else _number(value)
                for column, value in zip(columns, row, strict=True)
            ]
            for row in reader
        ]
    return {"columns": columns, "rows": rows}


def read_curve(path):
    """Rows of a curve as dictionaries, without what a row does not have."""
    table = read_table(path)
    return [
        {
            name: value
            for name, value in zip(table["columns"], row, strict=True)
            if value is not None
        }
        for row in table["rows"]
    ]


def _number(text):
    if not text:
        return None
    return int(text) if text.lstrip("-").isdigit() else float(text)


def write_run(record, mode, root):
    """Tell W&B of one finished run and return where it lies: {"folder", "address", "replaced"}.

    ``record``: a value of `study_run`; ``root``: folder below which W&B puts its own. A run that
    lies there with the same content is kept: sending it again would append its history to itself.
    Another content takes its place (``replaced``: the old one had been sent to the server).
    """
    digest = hashlib.sha256(canonical_json(record).encode()).hexdigest()
    content = {"mode": mode, "sha256": digest}
    sent = False
    for folder in sorted((Path(root) / "wandb").glob(f"*run-*-{record['id']}")):
        stored = folder / "content.json"
        known = read_json(stored) if stored.is_file() else {}
        if known.items() >= content.items():
            return {"folder": str(folder), "address": known["address"], "replaced": False}
        sent = sent or known.get("mode") == "online" or bool(list(folder.glob("*.wandb.synced")))
        shutil.rmtree(folder)
    shutil.rmtree(staging(root, record["id"]), ignore_errors=True)
    with started(record, mode, root) as (wandb, run):
        for row in record["history"]:
            run.log(row)
        tables = {
            name: wandb.Table(columns=table["columns"], data=table["rows"])
            for name, table in record["tables"].items()
        }
        run.log(tables)
        run.summary.update(record["summary"])
        folder = Path(run.settings.sync_dir)
        address = run.url if mode == "online" else None
    # Relative to where the study runs, so that it may be moved.
    folder = Path(root) / "wandb" / folder.name
    write_json(folder / "content.json", {**content, "address": address})
    return {"folder": str(folder), "address": address, "replaced": sent}


def staging(root, run):
    """Folder for what W&B keeps of a run outside of the run's own folder."""
    return Path(root) / "staging" / run


@contextlib.contextmanager
def started(headings, mode, root):
    """Yield W&B's module and a run that says nothing, asks nothing and watches nothing; finish it.

    Raises TrackerError where there is no key for ``online``, or the folder cannot be written.
    """
    if mode == "online" and not os.environ.get(KEY):
        raise TrackerError(f"tracking.mode is online, but {KEY} is not set in the environment")
    try:
        # W&B would write to a folder for temporary files instead.
        (Path(root) / "wandb").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrackerError(f"the folder cannot be written: {error}") from None
    # Reports of its own errors to its makers are network, too.
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    # Tables wait there until they are sent: beside the run, not in somebody's home.
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        os.environ[name] = str(staging(root, headings["id"]).resolve())
    import wandb

    settings = wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        symlink=False,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        # A server that does not answer is given up soon.
        login_timeout=20,
        init_timeout=40,
        finish_timeout=45,
        finish_timeout_raises=True,
        x_graphql_timeout_seconds=15,
        x_graphql_retry_max=2,
        x_graphql_retry_wait_max_seconds=5,
        x_file_stream_timeout_seconds=15,
        x_file_stream_retry_max=4,
        x_file_transfer_timeout_seconds=30,
        x_file_transfer_retry_max=4,
    )
    run = wandb.init(
        mode=mode,
        dir=str(root),
        project=headings["project"],
        entity=headings["entity"],
        id=headings["id"],
        name=headings["name"],
        group=headings["group"],
        job_type=headings["job_type"],
        config=headings["config"],
        settings=settings,
    )
    run.define_metric("epoch", hidden=True)
    for name in CURVES:
        run.define_metric(name, step_metric="epoch")
    yield wandb, run
    run.finish()


def follow(headings, mode, root, curves, ended):
    """Send the rows of a curve as they come until ``ended(seconds)`` says that it is done.

    ``curves``: {file in which rows may stand: its `stamp` before the training}; a file that was not
    written since is not read. ``ended`` waits that many seconds at most.
    """
    last = -1
    with started(headings, mode, root) as (_, run):
        done = False
        while not done:
            done = ended(2.0)
            for path, before in curves.items():
                if modified(path) in (None, before):
                    continue
                try:
                    rows = read_curve(path)
                except FileNotFoundError:
                    # The training removes what describes its progress when it is done.
                    continue
                for row in rows:
                    if row["epoch"] > last:
                        run.log({k: v for k, v in row.items() if k == "epoch" or k in CURVES})
                        last = row["epoch"]


def isolated(work, *arguments, seconds):
    """``work(*arguments)`` in a process of its own, without a terminal, for so many seconds at most.

    Returns what it returns. Raises TrackerError, in words, if it raises, hangs or is killed.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_alone, args=(sender, work, arguments))
    try:
        process.start()
    except OSError as error:
        raise TrackerError(f"no process could be started: {error}") from None
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise TrackerError(f"it did not end within {seconds} s")
        problem, result = receiver.recv()
    except EOFError:
        process.join()
        raise TrackerError(f"its process ended early ({_ending(process.exitcode)})") from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if problem:
        raise TrackerError(problem)
    return result


def _ending(code):
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _alone(sender, work, arguments):
    """The body of `isolated`'s process."""
    leave_terminal()
    try:
        sender.send((None, work(*arguments)))
    except BaseException as error:
        sender.send((in_words(error), None))
    # What the library still wants to do when its process ends may wait for a lost service.
    os._exit(0)


def leave_terminal():
    """Detach this process from any terminal: nothing can ask there, or write."""
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)


def in_words(error):
    """An exception of the tracker in one line, without a key that it may have repeated."""
    text = " ".join(str(error).split()) if isinstance(error, TrackerError) else ""
    text = text or " ".join(f"{type(error).__name__}: {error}".split())
    key = os.environ.get(KEY)
    return text.replace(key, "***") if key else text
