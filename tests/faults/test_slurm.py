"""The tiny study on a real SLURM of one node, and failures of its jobs there."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import psutil
import pytest
from slurm_cluster import MISSING, Cluster, wait_until
from tiny_study import PROJECT, TINY, Project

# If set, a missing SLURM is a failure.
REQUIRED = os.environ.get("DML_REQUIRE_SLURM") == "1"
pytestmark = pytest.mark.skipif(
    bool(MISSING) and not REQUIRED,
    reason=f"there is no {', '.join(MISSING)} (Debian: apt install slurm-wlm)",
)

FOLDER = Path(__file__).parent
TABLE = "results/tiny/comparison/experiments.csv"
BASELINE = "EPSHN_cosine_resnet18_sgd_aug"
OTHER = "EPSHN_cosine_resnet18+1dBN_sgd_aug"
PLAN = """
import json, sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
    workflow = api.workflow(
        snakefile=Path("Snakefile"),
        config_settings=ConfigSettings(configfiles=[Path(sys.argv[1])]),
        resource_settings=ResourceSettings(cores=4, nodes=4),
    )
    dag = workflow.dag(DAGSettings(targets={sys.argv[2]}))
    dag.execute_workflow(executor="dryrun")
    jobs = [
        [job.rule.name, list(job.wildcards), job.threads, dict(job.resources.items())]
        for job in workflow._workflow.dag.jobs
        if job.rule.name not in workflow._workflow._localrules
    ]
print(json.dumps(jobs))
"""


class Run:
    """`snakemake --workflow-profile profiles/slurm` in the background, in a copy of the project."""

    def __init__(self, cluster, project, *arguments, target=TABLE):
        self.cluster, self.project = cluster, project
        self.output = project.folder / "snakemake.txt"
        command = [sys.executable, FOLDER / "quick_polling.py", target]
        command += ["--workflow-profile", "profiles/slurm", *arguments, "--configfile", TINY]
        with open(self.output, "w") as stream:
            self.process = cluster.popen(
                command,
                cwd=project.folder,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    def end(self, ok=True):
        """Wait for its end; returns its output."""
        code = self.process.wait(timeout=1800)
        text = self.output.read_text()
        assert (code == 0) == ok, f"exit code {code}:\n{text[-6000:]}"
        return text

    def held(self, *experiments):
        """The trainings of limited models, each paused after its first epoch.

        All are watched at once: they run side by side, and one that nobody holds is soon over.
        """
        found = {}

        def begun():
            assert self.process.poll() is None, self.output.read_text()[-6000:]
            for experiment in experiments:
                if experiment not in found and (self._state(experiment) / "training.pt").exists():
                    found[experiment] = self._paused(experiment)
            return len(found) == len(experiments)

        wait_until(begun, f"{' and '.join(experiments)}: trainings begin", 900, every=0.02)
        return [found[experiment] for experiment in experiments]

    def _state(self, experiment):
        return run_folder(self.project, experiment) / "state"

    def _paused(self, experiment):
        """The process that trains this experiment's limited model, paused."""
        out = self._state(experiment).parent
        for _, process in self.cluster.processes():
            words = process.cmdline()
            if any(str(word).endswith("/train.py") for word in words[:3]) and str(out).endswith(
                words[words.index("--out") + 1]
            ):
                process.suspend()
                assert not (out / "model.pt").exists(), "the training was over too soon"
                return process
        raise AssertionError(f"{experiment} is not running any more")


def run_folder(project, experiment, class_set="limited_classes"):
    return project.result(f"experiments/{experiment}/seed42/{class_set}")


def small_project(folder):
    """The tiny study: two experiments from random weights, with enough epochs to interrupt them."""
    project = Project.fresh(folder)

    def change(study):
        study["only"] = [BASELINE, OTHER]
        study["untrained"] = {"backbones": []}
        study["substitute_initializers"] = {"imagenet": "scratch"}
        study["device"] = "auto"
        study["protocol"] |= {"epochs": 20, "compute_threads": 2}

    project.change_yaml(TINY, change)
    return project


def tables(project):
    """{path: content} of all tables; of curves, without the seconds that an epoch took."""
    root = project.folder / "results" / "tiny"
    found = {}
    for path in [*root.rglob("*.csv"), *root.rglob("summary.json"), *root.rglob("scalars.json")]:
        text = path.read_text()
        if path.name.endswith("curves.csv") and path.parent.name != "comparison":
            text = re.sub(r",[^,\n]*$", "", text, flags=re.MULTILINE)
        if not path.name.endswith("costs.csv"):
            found[str(path.relative_to(root))] = text
    return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """One SLURM for all tests here: four processors, two fake GPUs."""
    assert not MISSING, f"these tests need {', '.join(MISSING)} (Debian: apt install slurm-wlm)"
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(autouse=True)
def nothing_left(cluster):
    """End all jobs between tests."""
    yield
    cluster.clear()


@pytest.fixture(scope="module")
def study(cluster, tmp_path_factory):
    """The study, run on the cluster up to its table, and its jobs."""
    project = small_project(tmp_path_factory.mktemp("study") / "project")
    run = Run(cluster, project)
    run.end()
    project.jobs = cluster.jobs()
    return project


@pytest.fixture(scope="module")
def local_tables(tmp_path_factory):
    """Tables of the same study without a cluster."""
    project = small_project(tmp_path_factory.mktemp("local") / "project")
    project.snakemake(TABLE)
    return tables(project)


@pytest.fixture
def unfinished(study, tmp_path):
    """The finished study without its limited models and tables."""
    project = study.copy(tmp_path / "project")
    for experiment in (BASELINE, OTHER):
        shutil.rmtree(run_folder(project, experiment))
    shutil.rmtree(project.result("comparison"))
    (project.folder / "snakemake.txt").unlink()
    return project


def jobs_of(cluster, project, rule="train"):
    """Jobs of a rule that ran for a project, the earliest first."""
    return [
        job
        for job in cluster.jobs()
        if job["WorkDir"] == str(project.folder) and job["Comment"].startswith(f"rule_{rule}")
    ]


def slurm_id(process):
    """The job that a process belongs to."""
    return process.environ()["SLURM_JOB_ID"]


def seconds(text):
    """A duration of SLURM, [days-]hours:minutes:seconds."""
    days, _, rest = text.rpartition("-")
    hours, minutes, rest = (int(part) for part in rest.split(":"))
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + rest


def last_log(project, experiment):
    return project.result(f"logs/train/{experiment}_seed42_limited_classes.log").read_text()


def test_tables_equal_those_of_a_local_run(study, local_tables):
    """Would catch a job that computes differently, or with other inputs, on a node."""
    found = tables(study)
    assert found.keys() == local_tables.keys()
    assert found == local_tables


def test_jobs_ask_slurm_for_what_their_rules_declare(study):
    """Would catch a rule without memory or time, a resource that does not reach sbatch, small jobs that
    are sent to the cluster, or large ones that are not."""
    project = Project.fresh(study.folder.parent / "plan")
    shutil.copy2(study.folder / TINY, project.folder / TINY)
    done = subprocess.run(
        [sys.executable, "-c", PLAN, TINY, TABLE],
        cwd=project.folder,
        text=True,
        stdout=subprocess.PIPE,
        check=True,
    )
    declared, memory = {}, {}
    for rule, wildcards, threads, resources in json.loads(done.stdout.splitlines()[-1]):
        comment = f"rule_{rule}" + (f"_wildcards_{'_'.join(wildcards)}" if wildcards else "")
        gpus = f"gres:gpu:{resources['gpu']}" if resources.get("gpu") else None
        declared[comment] = (
            threads,
            resources["runtime"] * 60,
            gpus,
        )
        memory[comment] = resources["mem_mb"]
    asked = {
        job["Comment"]: (
            int(job["NumCPUs"]),
            seconds(job["TimeLimit"]),
            job.get("TresPerJob"),
        )
        for job in study.jobs
    }
    assert asked == declared
    # Snakemake's memory is in MB and SLURM's in MiB; sbatch gets the number in MB. The plan estimates packs
    # that exist when their trainings begin.
    for job in study.jobs:
        requested = int(job["MinMemoryNode"].removesuffix("M"))
        assert requested == pytest.approx(memory[job["Comment"]], rel=0.05)
    assert {job["JobState"] for job in study.jobs} == {"COMPLETED"}
    trainings = [value for comment, value in asked.items() if comment.startswith("rule_train")]
    assert trainings == [(2, 480 * 60, "gres:gpu:1")] * 4
    # More than CUDA takes of a host.
    assert all(memory[comment] > 5000 for comment in memory if comment.startswith("rule_train"))
    rules = {comment.split("_wildcards_")[0].removeprefix("rule_") for comment in asked}
    assert rules == {
        "draw_dataset",
        "extract_dataset",
        "list_images",
        "pack",
        "train",
        "evaluate",
        "answer",
        "score_rejection",
        "measure_models",
        "compare",
    }


def test_two_gpus_serve_two_trainings_at_a_time(study):
    """Would catch a profile that counts GPUs itself (`gpu: 1`), so that one of them stays idle, and a
    training that does not report an unusable GPU."""
    spans = [
        tuple(datetime.fromisoformat(job[key]) for key in ("StartTime", "EndTime"))
        for job in study.jobs
        if job["Comment"].startswith("rule_train")
    ]
    at_once = [sum(begin <= start < end for begin, end in spans) for start, _ in spans]
    assert max(at_once) == 2
    assert "torch cannot use it and computes on the CPU" in last_log(study, BASELINE)


def test_cancelled_and_overdue_trainings_go_on(cluster, unfinished, local_tables):
    """Would catch a signal of SLURM that does not end the program, an attempt that starts from the
    beginning or requests no more than the one before, a job that Snakemake waits for without end, and
    incomplete outputs."""
    run = Run(cluster, unfinished)
    cancelled, overdue = run.held(BASELINE, OTHER)
    for process in (cancelled, overdue):
        # bash and srun leave the processes of the step in one group, which SLURM signals.
        assert os.getpgid(process.pid) == os.getpgid(process.ppid())
    ids = {"CANCELLED": slurm_id(cancelled), "TIMEOUT": slurm_id(overdue)}
    cluster.command("scancel", ids["CANCELLED"])
    wait_until(lambda: not cancelled.is_running(), "the program ends")
    folder = run_folder(unfinished, BASELINE)
    assert not [path for path in folder.rglob("*") if path.is_file() and path.parent == folder]
    cluster.command("scontrol", "update", f"JobId={ids['TIMEOUT']}", "TimeLimit=1")
    wait_until(lambda: not overdue.is_running(), "SLURM ends the job", 900)
    run.end()
    jobs = jobs_of(cluster, unfinished)
    for state, number in ids.items():
        (job,) = (job for job in jobs if job["JobId"] == number)
        (again,) = (j for j in jobs if j["Comment"] == job["Comment"] and j is not job)
        assert job["JobState"] == state
        assert again["JobState"] == "COMPLETED"
        first, second = (int(j["MinMemoryNode"].removesuffix("M")) for j in (job, again))
        assert second == 2 * first > 2000
        assert again["TimeLimit"] == "16:00:00"
    for experiment in (BASELINE, OTHER):
        assert "continuing after epoch" in last_log(unfinished, experiment)
        assert not (run_folder(unfinished, experiment) / "state").exists()
    assert tables(unfinished) == local_tables


def test_trainings_survive_the_loss_of_their_node(cluster, unfinished, local_tables):
    """Would catch a job restarted by SLURM that fails because of files of the first attempt, and a job
    that SLURM gives up and Snakemake does not submit again."""
    run = Run(cluster, unfinished)
    requeued, lost = run.held(BASELINE, OTHER)
    ids = slurm_id(requeued), slurm_id(lost)
    # Whether SLURM restarts such jobs itself depends on the site.
    cluster.command("scontrol", "update", f"JobId={ids[0]}", "Requeue=1")
    cluster.command("scontrol", "update", f"JobId={ids[1]}", "Requeue=0")
    cluster.kill_node()
    cluster.start_node()
    run.end()
    jobs = {job["JobId"]: job for job in jobs_of(cluster, unfinished)}
    assert jobs.pop(ids[0])["Restarts"] == "1"
    assert jobs.pop(ids[1])["JobState"] == "NODE_FAIL"
    assert [job["JobState"] for job in jobs.values()] == ["COMPLETED"]
    for experiment in (BASELINE, OTHER):
        assert "continuing after epoch" in last_log(unfinished, experiment)
    assert tables(unfinished) == local_tables


def test_docs_say_how_to_go_on_after_snakemake_was_killed(cluster, unfinished, local_tables):
    """Would catch commands of docs/cluster.md that leave jobs of a killed Snakemake running beside the
    new ones, do not remove its lock, or cannot be typed as they are written."""
    run = Run(cluster, unfinished)
    (training,) = run.held(BASELINE)
    run.process.kill()
    run.process.wait()
    (block,) = re.findall(
        r"```\n(jobs_here\(\).*?)\n```", (PROJECT / "docs" / "cluster.md").read_text(), re.DOTALL
    )
    before = {job["JobId"] for job in jobs_of(cluster, unfinished)}
    *commands, again = block.splitlines()
    assert again == "snakemake --workflow-profile profiles/slurm"
    subprocess.run(
        ["bash", "-euc", "\n".join(commands)],
        cwd=unfinished.folder,
        env={
            **cluster.environment,
            "PATH": f"{Path(sys.executable).parent}:{cluster.environment['PATH']}",
        },
        check=True,
    )
    assert not training.is_running()
    states = {job["JobId"]: job["JobState"] for job in jobs_of(cluster, unfinished)}
    assert states.keys() == before
    assert not {"PENDING", "RUNNING", "COMPLETING"} & set(states.values())
    Run(cluster, unfinished).end()
    assert "continuing after epoch" in last_log(unfinished, BASELINE)
    assert tables(unfinished) == local_tables


def test_ctrl_c_cancels_the_jobs(cluster, unfinished):
    """Would catch an interrupted Snakemake whose jobs continue."""
    run = Run(cluster, unfinished)
    (training,) = run.held(BASELINE)
    # Snakemake may have begun with other trainings.
    before = {
        job["JobId"]
        for job in jobs_of(cluster, unfinished)
        if job["JobState"].startswith("COMPLET")
    }
    run.process.send_signal(signal.SIGINT)
    run.end(ok=False)
    wait_until(lambda: not training.is_running(), "the training ends")

    def states():
        jobs = jobs_of(cluster, unfinished)
        return {job["JobState"] for job in jobs if job["JobId"] not in before}

    wait_until(lambda: states() == {"CANCELLED"}, "all jobs are cancelled")
    assert (run_folder(unfinished, BASELINE) / "state" / "training.pt").exists()


def test_no_process_is_left(tmp_path):
    """Would catch daemons or jobs of this test cluster that still run after the tests."""
    cluster = Cluster(tmp_path / "c", gpus=1)
    cluster.start()
    stubborn = "trap '' TERM; while true; do sleep 1; done"
    cluster.command("sbatch", "--output=/dev/null", f"--wrap={stubborn}")
    wait_until(lambda: "slurm_script" in dict(cluster.processes()), "the job runs")
    pids = [process.pid for _, process in cluster.processes()]
    cluster.stop()
    assert not any(psutil.pid_exists(pid) for pid in pids)
