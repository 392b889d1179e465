"""Weights & Biases gets the curves, tables and scalars once; its failures do not affect the study."""

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from dmlstudy.track import temporary, tracking
from dmlstudy.track.live_curve import SETTINGS, live_curve

SCRIPTS = Path(tracking.__file__).resolve().parents[2]
# No server listens there; nothing leaves this machine.
NOWHERE = "http://127.0.0.1:9"
FAKE_KEY = "0123456789abcdef0123456789abcdef01234567"
WHAT = {
    "results": {"results_dir": "results/x", "dataset": "birds"},
    "experiment": "Some+One",
    "seed": 42,
    "class_set": {"name": "limited_classes", "unseen": 2},
    "recipe": {"epochs": 4, "loss": {"kind": "epshn"}},
}
SETTINGS_OF_TESTS = {"project": "DML-for-Classification", "entity": None}
# Names of classes that look like a number, a missing value, an average or a tag.
NAMES = ["NA", "1", "accuracy", '<b>"x"</b>, y', "Ärger"]


def environment(folder, **more):
    """No key, no network, a separate home; W&B's own variables must not change anything.

    The system's folder for temporary files is ``folder``/system, so that tests can look into it.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "DML_"))}
    home, system = folder / "home", folder / "system"
    for place in (home, system):
        place.mkdir(exist_ok=True)
    return {**clean, "HOME": str(home), "TMPDIR": str(system), "WANDB_BASE_URL": NOWHERE, **more}


def left_behind(folder):
    """Temporary files: those in the system's folder (see `environment`), and those in the tracker's."""
    in_system = [path.name for path in (folder / "system").iterdir()]
    return in_system + [path.name for path in (folder / "tracking").glob(f"{temporary.PREFIX}*")]


def write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def finished_runs(folder):
    """Folders of two finished runs, all classes and limited, with tables as the study writes them."""
    quoted = ['"' + name.replace('"', '""') + '"' for name in NAMES]
    for index, run in enumerate(("all", "limited")):
        # Accuracy at every second epoch only.
        curve = [f"{e},{e + index}.5,{'' if e % 2 else e / 10},1.0" for e in range(1, 5)]
        write(folder / run / "curves.csv", ["epoch,train_loss,test_accuracy,seconds", *curve])
        rows = [f"{name},2,4,0.5" for name in quoted]
        head = "class_name,test_samples,train_samples,precision_at_1"
        write(folder / run / "metrics.csv", [head, *rows])
        rows = [f"{name},class,0.1,0.2,,2" for name in quoted] + ["accuracy,average,0.1,0.2,0.3,10"]
        head = "class_name,row,precision,recall,f1_score,support"
        write(folder / run / "classification_report.csv", [head, *rows])
    head = "class_name,all_classes_precision_at_1,limited_classes_precision_at_1"
    for part, names in (("unseen", quoted[:2]), ("seen", quoted[2:])):
        path = folder / "limited" / f"comparison_{part}_classes.csv"
        write(path, [head, *[f"{name},0.5,0.25" for name in names]])
    scalars = {name: position / 4 for position, name in enumerate(tracking.SCALARS)}
    write(folder / "limited" / "scalars.json", [json.dumps({**scalars, "other": 1})])
    return folder / "all", folder / "limited"


def track(folder, mode="offline", *, env, **options):
    """Run track.py as the rule does; returns its JSON and its log."""
    all_classes, limited = folder / "all", folder / "limited"
    command = [sys.executable, SCRIPTS / "track.py", "--all-classes", all_classes]
    command += ["--limited", limited, "--what", json.dumps(WHAT), "--mode", mode]
    command += ["--project", "DML-for-Classification", "--root", folder / "tracking"]
    command += ["--out", folder / "tracking.json", "--log", folder / "track.log"]
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, **options}
    done = subprocess.run(command, env=env, timeout=300, **options)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "tracking.json").read_text()), (folder / "track.log").read_text()


def records(folder):
    """Records of a run as W&B's own reader gives them."""
    command = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", str(folder)]
    # The reader writes a log into the system's folder for temporary files.
    with tempfile.TemporaryDirectory() as logs:
        env = {**os.environ, "TMPDIR": logs}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    return [json.loads(line) for line in done.stdout.splitlines()]


def history(folder):
    return [r["history"]["item"] for r in records(folder) if r["type"] == "history"]


def points(rows, name):
    return [(row["epoch"], row[name]) for row in rows if name in row]


def warnings(log):
    return [line for line in log.splitlines() if "Weights & Biases" in line]


def holds(folder, text):
    """Files in a folder that contain a text."""
    return [p for p in folder.rglob("*") if p.is_file() and text.encode() in p.read_bytes()]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A study run, written offline although the environment says otherwise."""
    folder = tmp_path_factory.mktemp("tracked")
    finished_runs(folder)
    env = environment(folder, WANDB_MODE="online", WANDB_PROJECT="other", WANDB_RUN_ID="other")
    return folder, *track(folder, env=env)


def test_offline_run_holds_every_curve_table_and_scalar(tracked):
    """Would catch a curve, table or scalar that is missing, cut, renamed, or has invented points."""
    folder, result, log = tracked
    assert result["problem"] is None
    assert warnings(log) == []
    run = Path(result["folder"])
    assert run.parent == folder / "tracking" / "wandb"
    found = records(run)
    head = next(r["run"] for r in found if r["type"] == "run")
    assert head["project"] == "DML-for-Classification"
    assert head["run_id"] == result["id"]
    assert head["run_group"] == "birds: Some+One"
    assert head["display_name"] == "Some+One, seed 42, limited_classes"
    steps = {r["metric"]["name"]: r["metric"].get("step_metric") for r in found if "metric" in r}
    assert {name: steps[name] for name in tracking.CURVES} == dict.fromkeys(
        tracking.CURVES, "epoch"
    )
    rows = history(run)
    for index, suffix in enumerate(("", "2")):
        losses = [(e, e + index + 0.5) for e in range(1, 5)]
        assert points(rows, f"train_loss{suffix}") == losses
        assert points(rows, f"test_accuracy{suffix}") == [(2, 0.2), (4, 0.4)]
    tables = {
        path.name.rsplit("_", 2)[0]: json.loads(path.read_text())
        for path in (run / "files" / "media" / "table").glob("*.table.json")
    }
    sizes = {name: (len(table["data"]), len(table["columns"])) for name, table in tables.items()}
    assert sizes == {
        "all_classes_metrics": (5, 4),
        "all_classes_classification_report": (6, 6),
        "limited_classes_metrics": (5, 4),
        "limited_classes_classification_report": (6, 6),
        "comparison_unseen_classes_metrics": (2, 3),
        "comparison_seen_classes_metrics": (3, 3),
    }
    assert [row[0] for row in tables["all_classes_metrics"]["data"]] == NAMES
    assert tables["all_classes_metrics"]["data"][1] == ["1", 2, 4, 0.5]
    assert tables["limited_classes_classification_report"]["data"][0][4] is None
    summary = {}
    for record in found:
        summary |= record.get("summary", {}).get("update", {})
    assert [summary[name] for name in tracking.SCALARS] == [0.0, 0.25, 0.5]
    # Files to send are beside the run, and the home does not change.
    assert not list((folder / "home").iterdir())


def test_finished_run_leaves_no_temporary_files(tracked):
    """Would catch W&B's temporary folders (eight for each run), which its process leaves behind."""
    assert left_behind(tracked[0]) == []


def test_unchanged_run_is_not_logged_twice(tracked):
    """Would catch a second folder with the same id, which `wandb sync` would append to the first."""
    folder, result, _ = tracked
    again, log = track(folder, env=environment(folder))
    assert again == result
    assert warnings(log) == []
    assert len(list((folder / "tracking" / "wandb").iterdir())) == 1


def test_other_figures_of_the_same_recipe_take_their_place(tracked, tmp_path):
    """Would catch metrics of an older evaluation that stay, or a history sent twice without a warning."""
    folder = tmp_path / "study"
    shutil.copytree(tracked[0], folder)
    old = next((folder / "tracking" / "wandb").iterdir())
    (old / f"run-{tracked[1]['id']}.wandb.synced").touch()
    write(folder / "all" / "curves.csv", ["epoch,train_loss,test_accuracy", "1,7.5,0.25"])
    result, _ = track(folder, env=environment(folder))
    assert result["id"] == tracked[1]["id"]
    (run,) = (folder / "tracking" / "wandb").iterdir()
    assert str(run) == result["folder"]
    assert points(history(run), "train_loss") == [(1, 7.5)]
    assert f"delete run {result['id']}" in result["next"]


def test_run_that_was_written_online_counts_as_sent(tracked, tmp_path):
    """Would catch a history that appears twice on the server, without a hint to delete the first."""
    folder = tmp_path / "study"
    shutil.copytree(tracked[0], folder)
    card = next((folder / "tracking" / "wandb").iterdir()) / "content.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "mode": "online"}))
    result, _ = track(folder, env=environment(folder))
    assert f"delete run {result['id']}" in result["next"]


def test_id_follows_from_project_results_and_recipe():
    """Would catch results folders that overwrite each other's runs, or a changed recipe in the old run."""

    def name(project="p", **changes):
        settings = {"project": project, "entity": None}
        return tracking.headings(settings, {**WHAT, **changes}, "study")["id"]

    assert name() == name()
    ids = {
        name(),
        name("q"),
        name(results={"results_dir": "results/y", "dataset": "birds"}),
        name(recipe={"epochs": 5, "loss": {"kind": "epshn"}}),
        name(class_set={"name": "limited_classes", "unseen": 3}),
        name(seed=43),
        tracking.headings(SETTINGS_OF_TESTS, WHAT, "training")["id"],
    }
    assert len(ids) == 7
    # Lists or tuples, 4 or 4.0, one order of keys or another: the same recipe.
    assert name(recipe={"loss": {"kind": "epshn"}, "epochs": 4.0}) == name()


TROUBLES = {
    "server": ("online", {"WANDB_API_KEY": FAKE_KEY}, "connection refused"),
    "key": ("online", {}, "WANDB_API_KEY is not set"),
    "folder": ("offline", {}, "the folder cannot be written"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_tracker_that_fails_costs_one_warning(tmp_path, trouble):
    """Would catch a problem with server, key or folder that fails the study, is silent, or waits."""
    mode, variables, words = TROUBLES[trouble]
    finished_runs(tmp_path)
    if trouble == "folder":
        (tmp_path / "tracking").write_text("in the way")
    result, log = track(tmp_path, mode, env=environment(tmp_path, **variables))
    assert words in result["problem"]
    assert "--forcerun" in result["next"]
    assert len(warnings(log)) == 1
    assert words in log
    assert holds(tmp_path, FAKE_KEY) == []
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    ("mode", "problem"), [("offline", None), ("online", "WANDB_API_KEY is not set")]
)
def test_nobody_is_asked_at_a_terminal(tmp_path, mode, problem):
    """Would catch a question at the terminal, which would block the study."""
    finished_runs(tmp_path)
    outside, inside = pty.openpty()
    try:
        result, _ = track(
            tmp_path, mode, env=environment(tmp_path, TERM="xterm"), start_new_session=True,
            stdin=inside, stdout=inside, stderr=inside, capture_output=False,
        )  # fmt: skip
        os.set_blocking(outside, False)
        try:
            said = os.read(outside, 100_000).decode()
        except BlockingIOError:
            said = ""
    finally:
        os.close(outside)
        os.close(inside)
    assert "account" not in said
    assert "Enter" not in said
    assert (problem or "None") in str(result["problem"])


# Begins a run whose process waits inside; prints that it has begun. Ends when it is killed.
HOLD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from dmlstudy.track import tracking

def hold(record, root):
    with tracking.started(record, "offline", root) as (wandb, run):
        run.log({"table": wandb.Table(columns=["a"], data=[[1]])})
        Path(root, "begun").touch()
        time.sleep(600)

if __name__ == "__main__":
    record = tracking.headings({"project": "p", "entity": None}, %r, "study")
    tracking.isolated(hold, record, sys.argv[2], seconds=float(sys.argv[3]))
"""


def descendants(process):
    """Ids of the processes that a process started, and of those that they started."""
    found = []
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        found += [int(child), *descendants(child)]
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("killed", ["the tracker's process", "both"])
def test_killed_tracker_leaves_nothing_in_the_systems_folder(tmp_path, killed):
    """Would catch temporary folders that stay after a kill, or that the next start does not remove."""
    finished_runs(tmp_path)
    program, root, env = tmp_path / "hold.py", tmp_path / "tracking", environment(tmp_path)
    program.write_text(HOLD % WHAT)
    root.mkdir()
    command = [sys.executable, program, SCRIPTS, root, "600"]
    starter = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    while not (root / "begun").exists() and starter.poll() is None:
        time.sleep(0.05)
    # W&B has temporary files at this moment.
    (folder,) = root.glob(f"{temporary.PREFIX}*")
    assert len(list(folder.iterdir())) > 1
    processes = descendants(starter.pid)
    if killed == "both":
        starter.kill()
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    starter.wait()
    assert list((tmp_path / "system").iterdir()) == []
    # The next start removes what is left.
    track(tmp_path, env=env)
    assert left_behind(tmp_path) == []


def test_temporary_files_of_a_running_tracker_stay(tmp_path):
    """Would catch a sweep that removes the files of a process that still works, or that fails."""
    before = os.environ.get("TMPDIR"), tempfile.gettempdir()
    with temporary.temporary_folder(tmp_path) as one, temporary.temporary_folder(tmp_path) as two:
        assert os.environ["TMPDIR"] == tempfile.gettempdir() == str(two)
        gone = tmp_path / f"{temporary.PREFIX}gone"
        (gone / "files").mkdir(parents=True)
        temporary.sweep(tmp_path)
        assert not gone.exists()
        assert one.is_dir()
        assert two.is_dir()
    assert list(tmp_path.iterdir()) == []
    assert (os.environ.get("TMPDIR"), tempfile.gettempdir()) == before
    temporary.sweep(tmp_path / "missing")


def hang():
    time.sleep(600)


def vanish():
    os.kill(os.getpid(), signal.SIGKILL)


def repeat_key():
    raise OSError(f"refused key {os.environ[tracking.KEY]}")


def lose_service(record, root):
    """A run whose background process is killed while it is written."""
    with tracking.started(record, "offline", root) as (_, run):
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        for epoch in range(100):
            run.log({"epoch": epoch})
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("work", "words"),
    [(hang, "not finished after 2 s"), (vanish, "killed by signal 9"), (repeat_key, "key ***")],
)
def test_process_that_is_lost_is_told_in_words(monkeypatch, work, words):
    """Would catch a study that fails because the tracker hangs, is killed or prints the key."""
    monkeypatch.setenv(tracking.KEY, FAKE_KEY)
    with pytest.raises(tracking.TrackerError) as error:
        tracking.isolated(work, seconds=2 if work is hang else 300)
    assert words in str(error.value)
    assert FAKE_KEY not in str(error.value)


def test_process_that_cannot_start_is_told_in_words(monkeypatch):
    """Would catch a study that fails because no process can be started for the tracker."""

    def refuse(process):
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr("multiprocessing.context.SpawnProcess.start", refuse)
    with pytest.raises(tracking.TrackerError, match="Cannot allocate"):
        tracking.isolated(vanish, seconds=300)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_lost_service_is_told_in_words(tmp_path):
    """Would catch a study that fails because W&B's background process was killed."""
    record = tracking.headings(SETTINGS_OF_TESTS, WHAT, "study")
    with pytest.raises(tracking.TrackerError, match=r"Connection|connection|service"):
        tracking.isolated(lose_service, record, str(tmp_path), seconds=300)
    assert list(tmp_path.glob(f"{temporary.PREFIX}*")) == []


def train(folder, epochs=3, name="Some+One", pause=0.0, then=None):
    """Write files as a training does: a row per epoch, then the finished curve."""
    rows = ["epoch,train_loss,test_accuracy,seconds"]
    for epoch in range(1, epochs + 1):
        rows.append(f"{epoch},{epoch}.5,0.5,0.1")
        write(folder / "state" / "curves.csv", rows)
        time.sleep(pause)
        if then:
            then()
    write(folder / "curves.csv", rows)
    shutil.rmtree(folder / "state")


def ask_for(monkeypatch, folder, mode, **variables):
    for key in [key for key in os.environ if key.startswith(("WANDB_", "DML_"))]:
        monkeypatch.delenv(key)
    for key, value in environment(folder, **variables).items():
        monkeypatch.setenv(key, value)
    settings = {**SETTINGS_OF_TESTS, "mode": mode, "root": str(folder / "tracking")}
    # A busy machine may take long to start a process; the test does not depend on that.
    monkeypatch.setattr("dmlstudy.track.live_curve.TIMEOUT", 300)
    monkeypatch.setenv(SETTINGS, json.dumps({**settings, "results": WHAT["results"]}))


SPEC = {"seed": 42, "epochs": 3}


def test_both_trainings_are_followed_at_the_same_time(tmp_path, monkeypatch, caplog):
    """Would catch two curves in one run, points of an older training, or a lost last point."""
    ask_for(monkeypatch, tmp_path, "offline")
    folders = {name: tmp_path / name for name in ("all_classes", "limited_classes")}
    write(folders["all_classes"] / "state" / "curves.csv", ["epoch,train_loss", "77,7.5"])
    # Two at a time, as Snakemake runs them; the context is entered twice before either is left.
    with live_curve(folders["all_classes"], "Some+One", "all_classes", SPEC):
        with live_curve(folders["limited_classes"], "Some+One", "limited_classes", SPEC):
            train(folders["limited_classes"], epochs=5)
        train(folders["all_classes"])
    assert caplog.text == ""
    assert left_behind(tmp_path) == []
    found = {}
    for run in (tmp_path / "tracking" / "wandb").iterdir():
        head = next(r["run"] for r in records(run) if r["type"] == "run")
        assert head["run_group"] == "birds: Some+One"
        assert head["job_type"] == "training"
        found[head["display_name"]] = points(history(run), "train_loss")
    assert found == {
        "Some+One, seed 42, all_classes, training": [(e, e + 0.5) for e in range(1, 4)],
        "Some+One, seed 42, limited_classes, training": [(e, e + 0.5) for e in range(1, 6)],
    }


def test_training_without_a_wish_starts_nothing(tmp_path, monkeypatch):
    """Would catch a process, folder or question although live tracking is off."""
    monkeypatch.delenv(SETTINGS, raising=False)
    monkeypatch.setattr(subprocess, "Popen", None)
    with live_curve(tmp_path / "run", "Some+One", "all_classes", SPEC):
        train(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def kill_follower():
    """Kill the process that follows this training."""
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        if "track_training.py" in Path(f"/proc/{child}/cmdline").read_text():
            os.kill(int(child), signal.SIGKILL)


@pytest.mark.parametrize("trouble", ["server", "key", "folder", "killed", "program"])
def test_training_whose_tracker_fails_ends_with_one_warning(tmp_path, monkeypatch, caplog, trouble):
    """Would catch a tracker problem that ends or delays a training, or that is not reported."""
    variables = {"WANDB_API_KEY": FAKE_KEY} if trouble == "server" else {}
    mode = "online" if trouble in ("server", "key") else "offline"
    ask_for(monkeypatch, tmp_path, mode, **variables)
    if trouble == "folder":
        (tmp_path / "tracking").write_text("in the way")
    if trouble == "program":
        monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    if trouble == "killed" and not Path("/proc/self/task").exists():
        pytest.skip("needs Linux's /proc")
    with live_curve(tmp_path / "run", "Some+One", "all_classes", SPEC):
        train(tmp_path / "run", then=kill_follower if trouble == "killed" else None)
    assert len((tmp_path / "run" / "curves.csv").read_text().splitlines()) == 4
    (warning,) = caplog.messages
    words = {
        "server": "connection refused",
        "key": "WANDB_API_KEY is not set",
        "folder": "cannot be written",
        "killed": "-9",
        "program": "No such file",
    }
    assert re.search(words[trouble], warning)
    assert holds(tmp_path, FAKE_KEY) == []
    if trouble != "folder":
        assert left_behind(tmp_path) == []


def test_training_that_fails_keeps_its_own_error(tmp_path, monkeypatch, caplog):
    """Would catch a tracker problem that hides why the training failed."""
    ask_for(monkeypatch, tmp_path, "online")
    with (
        pytest.raises(ValueError, match="its own"),
        live_curve(tmp_path / "run", "Some+One", "all_classes", SPEC),
    ):
        raise ValueError("its own")


def test_planning_and_tracking_start_without_heavy_libraries():
    """Would catch slow imports (pandas, torch, W&B) in a process that only starts another one."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import track, track_training; "
        "sys.exit(any(name in sys.modules for name in ('wandb', 'torch', 'pandas', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(SCRIPTS)]).returncode == 0
