"""Runs trainings in forked processes, so that none has to import torch, and interrupts them.

Reads a JSON object per line: ``program``, ``arguments``, ``journal`` (file that gets a line per
started epoch), ``output`` (file for stderr) and ``harm``, one of

  null                                  nothing
  {"epochs": n, "seconds": s}           kill −9, s seconds after the start of the n-th epoch of this attempt
                                        (0: after the start of the attempt)
  {"call": "os.replace", "number": n}   kill −9 instead of the n-th call; also for os.fsync, and for
                                        torch.save, which writes half of its file
  {"compute": true}                     the second epoch is one operation of a minute
  {"future": path}                      before the second epoch, a file gets a date in the future

Answers with two lines: the process id, then the exit code (negative: the signal).
"""

import importlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# No thread may exist when a process is forked.
os.environ["OMP_NUM_THREADS"] = "1"
SCRIPTS = Path(__file__).resolve().parents[2] / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

import torch

from dmlstudy.core import registry
from dmlstudy.train import trainer

PROGRAMS = {name: importlib.import_module(name) for name in ("train", "pretrain")}
for piece in ("loss", "head", "augmentation", "optimizer", "schedule"):
    for kind in {"epshn", "crossentropy", "simclr", "linear", "none", "simclr_projection"} | {
        "crop_flip",
        "sgd",
        "adam",
        "constant",
    }:
        if kind in registry.REGISTRY[piece]:
            registry.load(piece, kind)
import faiss  # noqa: F401, after torch


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_later(begun, epochs, seconds):
    for _ in range(epochs):
        begun.acquire()
    time.sleep(seconds)
    die()


def die_instead(name, number):
    module = {"os": os, "torch": torch}[name.partition(".")[0]]
    function = getattr(module, name.partition(".")[2])
    calls = []

    def harmed(*arguments):
        calls.append(None)
        if len(calls) == number:
            if name == "torch.save":
                function(*arguments)
                stream = arguments[1]
                stream.truncate(stream.tell() // 2)
            die()
        return function(*arguments)

    setattr(module, name.partition(".")[2], harmed)


def attempt(request):
    """The body of a forked process; returns its exit code."""
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    begun = threading.Semaphore(0)
    train_epoch = trainer.Trainer.train_epoch
    harm = request["harm"] or {}

    def journalled(trainer):
        with open(request["journal"], "a") as journal:
            journal.write(f"{trainer.epoch + 1}\n")
        begun.release()
        if "compute" in harm and trainer.epoch == 1:
            Path(request["journal"]).with_name("computing").touch()
            torch.linalg.eigvals(torch.rand(4000, 4000))
            Path(request["journal"]).with_name("computed").touch()
        if "future" in harm and trainer.epoch == 1:
            os.utime(harm["future"], (time.time() + 1000,) * 2)
        return train_epoch(trainer)

    trainer.Trainer.train_epoch = journalled
    if "epochs" in harm:
        arguments = begun, harm["epochs"], harm["seconds"]
        threading.Thread(target=die_later, args=arguments, daemon=True).start()
    elif "call" in harm:
        die_instead(harm["call"], harm["number"])
    sys.argv = [request["program"], *request["arguments"]]
    try:
        PROGRAMS[request["program"]].main()
    except SystemExit as end:
        return end.code or 0
    return 0


for line in sys.stdin:
    process = os.fork()
    if not process:
        os._exit(attempt(json.loads(line)))
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
