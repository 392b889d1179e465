"""Weights & Biases: what is sent to it, from separate processes.

The tracker's library may wait for a server, lose its service process or be killed. That must not affect
the study. So only processes that do nothing else import it; they have no terminal, and are killed when
they take too long.
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
from dmlstudy.track.temporary import temporary_folder

KEY = "WANDB_API_KEY"
# Seconds that the tracker's process may take. The timeouts for the server (`started`) are shorter.
TIMEOUTS = {"offline": 120, "online": 240}
CURVES = ("train_loss", "test_accuracy", "train_loss2", "test_accuracy2")
SCALARS = (
    "precision_drop_unseen_classes",
    "precision_drop_seen_classes",
    "precision_drop_all_classes",
)
# Columns with text: a value that looks like a number is the name of a class.
TEXT = ("class_name", "row")


class TrackerError(Exception):
    """Why nothing was tracked, as a sentence. It only ends the tracking, never the study."""


def run_id(project, what):
    """Id of a run, 16 hexadecimal digits, from the project and ``what`` (plain values that describe it)."""
    return hashlib.sha256(canonical_json([project, what]).encode()).hexdigest()[:16]


def headings(settings, what, job_type):
    """Id, name, group and other settings of a W&B run; ``what``: a value of `Study.tracked`."""
    words = [what["experiment"], f"seed {what['seed']}", what["class_set"]["name"]]
    if job_type == "training":
        words.append("training")
    return {
        "project": settings["project"],
        "entity": settings["entity"],
        "id": run_id(settings["project"], [job_type, what]),
        "name": ", ".join(words),
        # With the data set: two studies may share a project and have experiments of the same name.
        "group": f"{what['results']['dataset']}: {what['experiment']}",
        "job_type": job_type,
        "config": what,
    }


def study_run(settings, what, all_classes, limited):
    """Everything that is sent to W&B for an experiment, seed and class set, as plain values.

    ``settings``: {"project", "entity"}; ``what``: a value of `Study.tracked`; ``all_classes`` and
    ``limited``: folders of the two finished runs. Curves, tables and scalars have the study's names.
    Returns `headings` plus ``history`` (rows of the curves, without missing points), ``tables``
    ({name: {"columns", "rows"}}) and ``summary`` ({name: number}).
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
    """A CSV table as {"columns": names, "rows": lists of text, numbers and None}."""
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
    """Rows of a curve as dictionaries, without empty values."""
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
    """Write a finished run to W&B and return {"folder", "address", "replaced"}.

    ``record``: a value of `study_run`; ``mode``: offline or online; ``root``: folder for W&B's files. An
    existing run with the same content is kept: sending it again would append its history to itself. A
    run with other content is replaced; ``replaced`` is true if the old one was already on the server.
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
    # Relative to the working directory, so that the study can be moved.
    folder = Path(root) / "wandb" / folder.name
    write_json(folder / "content.json", {**content, "address": address})
    return {"folder": str(folder), "address": address, "replaced": sent}


def staging(root, run):
    """Folder for the files that W&B keeps outside the folder of a run."""
    return Path(root) / "staging" / run


@contextlib.contextmanager
def started(headings, mode, root):
    """Yield (wandb module, new run), then finish the run.

    The run is silent, asks nothing and collects nothing about the machine or the code. Its temporary
    files are removed at the end (see `temporary`). Raises TrackerError if the mode is online and there
    is no API key, or if the folder cannot be written.
    """
    if mode == "online" and not os.environ.get(KEY):
        raise TrackerError(f"tracking.mode is online, but {KEY} is not set in the environment")
    with contextlib.ExitStack() as stack:
        try:
            # Without this folder W&B would write to the system's folder for temporary files.
            (Path(root) / "wandb").mkdir(parents=True, exist_ok=True)
            # Before the import, because importing W&B already makes temporary folders.
            stack.enter_context(temporary_folder(root))
        except OSError as error:
            raise TrackerError(f"the folder cannot be written: {error}") from None
        wandb, run = _begin(headings, mode, root)
        yield wandb, run
        run.finish()


def _begin(headings, mode, root):
    """Import W&B and begin a run; see `started`. Returns (wandb module, run)."""
    # W&B must not report its own errors over the network.
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    # Tables are kept here until they are sent, not in the user's home.
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
        # Give up soon if a server does not answer.
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
    return wandb, run


def follow(headings, mode, root, curves, ended):
    """Send new rows of a curve until ``ended(seconds)`` returns true.

    ``curves``: {path of a curve: its modification time before the training (see `modified`)}; files that
    have not changed since then are not read. ``ended`` waits at most that many seconds.
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
                    # The training removes its state folder when it ends.
                    continue
                for row in rows:
                    if row["epoch"] > last:
                        run.log({k: v for k, v in row.items() if k == "epoch" or k in CURVES})
                        last = row["epoch"]


def isolated(work, *arguments, seconds):
    """Run ``work(*arguments)`` in a separate process without a terminal, for at most ``seconds``.

    Returns its result. Raises TrackerError if it raises an exception, takes too long or is killed.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_alone, args=(sender, work, arguments))
    try:
        process.start()
    except OSError as error:
        raise TrackerError(f"cannot start a process: {error}") from None
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise TrackerError(f"not finished after {seconds} s")
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
    """The main function of the process that `isolated` starts."""
    leave_terminal()
    try:
        sender.send((None, work(*arguments)))
    except BaseException as error:
        sender.send((in_words(error), None))
    # No clean exit: the library's exit handlers may wait for a service that is gone.
    os._exit(0)


def leave_terminal():
    """Detach this process from the terminal, so that it can neither ask nor print there."""
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)


def in_words(error):
    """An exception as one line of text, with the API key masked."""
    text = " ".join(str(error).split()) if isinstance(error, TrackerError) else ""
    text = text or " ".join(f"{type(error).__name__}: {error}".split())
    key = os.environ.get(KEY)
    return text.replace(key, "***") if key else text
