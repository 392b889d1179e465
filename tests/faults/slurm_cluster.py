"""A real SLURM of one node in a folder, for tests: no systemd, no root, no munge, no database.

Debian: apt install slurm-wlm. GPUs are fake: SLURM counts them, torch finds none.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil

# Debian installs the daemons outside the PATH of normal users.
SEARCHED = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
NEEDED = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
MISSING = [name for name in NEEDED if shutil.which(name, path=SEARCHED) is None]

# Each GPU needs a device file, or jobs do not get its number.
CARDS = ("/dev/null", "/dev/zero")
CONTROLLER = ("slurmctld", "slurmscriptd")
NODE = ("slurmd", "slurmstepd")

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
# A job that is queued again waits until its old credential is void.
AuthInfo=cred_expire=5
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
# A node that was lost serves again as soon as it answers.
ReturnToService=2
# Seconds between the warning (SIGTERM) and the end (SIGKILL) of a job.
KillWait=30
SchedulerParameters=batch_sched_delay=0,sched_interval=2
# What finished jobs had asked for is read back at the end.
MinJobAge=3600
MailProg=/bin/true
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=localhost NodeAddr=127.0.0.1 NodeHostname={host} CPUs={cpus} RealMemory={memory_mb} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE DefaultTime=10 State=UP
"""

# Snakemake's job step removes SLURM_CONF before its inner srun; on a real cluster srun finds
# /etc/slurm/slurm.conf by itself.
SRUN = """\
#!/bin/sh
export SLURM_CONF='{configuration}'
exec '{srun}' "$@"
"""


def free_ports(count):
    """Free ports."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_until(condition, what, seconds=300, every=0.1):
    """The first true value of ``condition()``; AssertionError that names ``what`` after ``seconds``."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds} s in vain: {what}"
        time.sleep(every)
    return value


class Cluster:
    """slurmctld and slurmd of one node; `start` starts them, `stop` ends all processes."""

    def __init__(self, folder, cpus=4, memory_mb=20000, gpus=2):
        self.folder = Path(folder)
        self.tools = self.folder / "bin"
        self.tools.mkdir(parents=True)
        (self.folder / "state").mkdir()
        (self.folder / "spool").mkdir()
        configuration = self.folder / "slurm.conf"
        controller_port, node_port = free_ports(2)
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True)
        configuration.write_text(
            CONFIGURATION.format(
                host=socket.gethostname().split(".")[0],
                user=user.stdout.strip(),
                folder=self.folder,
                controller_port=controller_port,
                node_port=node_port,
                cpus=cpus,
                memory_mb=memory_mb,
                gpus=gpus,
            )
        )
        (self.folder / "gres.conf").write_text(
            "".join(f"NodeName=localhost Name=gpu File={card}\n" for card in CARDS[:gpus])
        )
        wrapper = self.tools / "srun"
        wrapper.write_text(
            SRUN.format(configuration=configuration, srun=shutil.which("srun", path=SEARCHED))
        )
        wrapper.chmod(0o755)
        self.clients = []
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(configuration),
            "PATH": f"{self.tools}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        }

    def command(self, *words, check=True):
        """Output of a SLURM command."""
        done = subprocess.run(
            words,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=600,
        )
        assert done.returncode == 0 or not check, f"{' '.join(words)}: {done.stdout}"
        return done.stdout.strip()

    def start(self):
        self.command("slurmctld")
        self.start_node()

    def start_node(self):
        self.command("slurmd", "-N", "localhost")
        wait_until(
            lambda: self.command("sinfo", "-h", "-o", "%T", check=False) in ("idle", "mixed"),
            f"the node is not up; see {self.folder}/*.log",
        )

    def kill_node(self):
        """Kill the node with all its processes; the controller notices at once."""

        def killed():
            # The daemon first, so that it reports nothing; twice, for processes that were just starting.
            processes = [(name, one) for name, one in self.processes() if name not in CONTROLLER]
            for _, process in sorted(processes, key=lambda pair: pair[0] not in NODE):
                process.kill()
            return not processes

        wait_until(killed, "nothing runs on the node")
        self.command("scontrol", "update", "NodeName=localhost", "State=DOWN", "Reason=lost")

    def popen(self, command, **options):
        """Start a process that uses this SLURM; `clear` ends it if it still runs."""
        process = subprocess.Popen(
            command,
            env=self.environment,
            # Tests in the background of a shell ignore this signal, and so would their children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            **options,
        )
        self.clients.append(process)
        return process

    def clear(self):
        """End all clients and jobs."""
        for process in self.clients:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.clients.clear()
        self.command("scancel", "--me", "--signal=KILL", "--full", check=False)
        self.command("scancel", "--me", check=False)
        wait_until(lambda: not self.command("squeue", "-h", check=False), "jobs end")

    def stop(self):
        """End jobs, then the daemons; anything still running is killed, and is an error."""
        try:
            self.clear()
            # The controller last: a node reports to it when it ends.
            for daemon in ("slurmd", "slurmctld"):
                for name, process in self.processes():
                    if name == daemon:
                        process.terminate()
                        process.wait(300)
            wait_until(lambda: not self.processes(), "no process is left")
        finally:
            for _, process in self.processes():
                process.kill()

    def processes(self):
        """(name, process) of the daemons and of processes in jobs, which are not children of ours."""
        mine = {process.pid for process in psutil.Process().children(recursive=True)}
        mark, found = f"SLURM_CONF={self.environment['SLURM_CONF']}".encode(), []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.NoSuchProcess):
                # psutil would stop reading at the gap in the title of a daemon.
                settings = Path(f"/proc/{process.pid}/environ").read_bytes()
                if mark in settings.split(b"\0") and process.pid not in mine:
                    found.append((process.name(), process))
        return found

    def jobs(self):
        """All jobs that the controller knows, as dictionaries of `scontrol show job`."""
        text = self.command("scontrol", "show", "job", "-o", check=False)
        lines = [line for line in text.splitlines() if line.startswith("JobId=")]
        return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines]
