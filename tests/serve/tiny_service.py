"""A tiny run with an index, and the service of it in a process of its own."""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import torch
from helpers import MAX_PIXELS, TinyStudy, small_recipe

from dmlstudy.compute.batches import MEAN, STD
from dmlstudy.compute.checkpoints import save_weights
from dmlstudy.core.files import file_digest, write_json
from dmlstudy.evaluate.thresholds import HELD_OUT
from dmlstudy.train.building import build_model
from dmlstudy.use.changed_index import ChangedIndex
from dmlstudy.use.gallery import make_gallery
from dmlstudy.use.index_files import MADE, write_gallery
from dmlstudy.use.service import server
from dmlstudy.use.service.api import make_app
from dmlstudy.use.service.desk import Desk
from dmlstudy.use.service.limits import Limits
from dmlstudy.use.trained_model import TrainedModel

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow" / "scripts"


def make_run(results):
    """A run with random weights in a results folder: its folder. Classes 0 to 3 are indexed, 4 and 5 are new."""
    data = results / "data" / "colours"
    data.mkdir(parents=True)
    study = TinyStudy(data)
    run = results / "experiments" / "one" / "seed42" / "all_classes"
    run.mkdir(parents=True)
    write_json(results / "study.json", {"dataset": "colours"})
    torch.manual_seed(0)
    recipe = small_recipe()
    model, _ = build_model(recipe, 6, 42)
    contents = {"model": model.state_dict(), "recipe": recipe.as_dict(), "test_resize": "shorter32"}
    save_weights(run / "model.pt", contents | {"mean": MEAN, "std": STD})
    manifest = study.manifest.assign(
        sha256=[file_digest(data / "images" / path) for path in study.manifest["path"]]
    )
    ids = np.flatnonzero((study.split["part"] == "train").to_numpy())
    paths = [data / "images" / manifest["path"][index] for index in ids]
    vectors, _, problems = TrainedModel(run / "model.pt").embed(paths, max_pixels=MAX_PIXELS)
    assert problems == []
    gallery = make_gallery(
        {"gallery_embeddings": vectors, "gallery_image_ids": ids},
        manifest,
        np.arange(6) < 4,
        model_sha256=file_digest(run / "model.pt"),
        accepted_share=0.9,
        way=HELD_OUT,
        held_out=np.ones(6, dtype=bool),
        data="colours",
    )
    write_gallery(run / "index", gallery)
    shares = {"unseen_classes": 0.91, "unseen_classes_low": 0.85, "unseen_classes_high": 0.96}
    row = {"seed": 42, "class_set": "limited_classes", "model": "all_classes", "way": HELD_OUT}
    row |= {"accepted_share": 0.9, "accepted_unknown_classes": 0.75}
    row["threshold"] = gallery.metadata["threshold"]["similarity"]
    row |= {f"accepted_{name}": value for name, value in shares.items()}
    more = row | {"accepted_share": 0.95, "threshold": row["threshold"] - 0.01}
    pd.DataFrame([row, more]).to_csv(run.parents[1] / "rejection_thresholds.csv", index=False)
    return run


def photographs_of(run, class_id):
    """Paths of the photographs of a class of the tiny run."""
    return sorted((run.parents[3] / "data/colours/images").glob(f"{class_id}_*.png"))


def sent(paths):
    """Photographs as the files of a request."""
    return [("photographs", (path.name, path.read_bytes())) for path in paths]


class Client:
    """Asks a service at ``address``. ``headers``: of all requests."""

    def __init__(self, address, **headers):
        self.address, self.port = address, int(address.rpartition(":")[2])
        self.client = httpx.Client(base_url=address, timeout=60, trust_env=False, headers=headers)

    def get(self, path, **options):
        return self.client.get(path, **options)

    def name(self, paths, **options):
        """Answers for photographs."""
        answer = self.client.post("/api/name", files=sent(paths), **options)
        assert answer.status_code == 200, answer.text
        return answer.json()["answers"]

    def enrol(self, name, paths, **options):
        """The answer to a request that enrols."""
        return self.client.post(
            "/api/classes", files=sent(paths), data={"class_name": name}, **options
        )

    def classes(self):
        """{class name: number of photographs}."""
        return {
            one["class_name"]: one["photographs"]
            for one in self.get("/api/classes").json()["classes"]
        }


class InThread(Client):
    """The service of a run in a thread. ``limits``: as those of `Limits`; ``token``: what it wants to be shown.

    ``store``: where its index is, as --store has it.
    """

    def __init__(self, run, token=None, store=None, **limits):
        options = {"run": run, "out": None, "index": MADE[0], "store": store}
        index = ChangedIndex(argparse.Namespace(**options))
        images = run.parents[3] / "data" / "colours" / "images"
        model = TrainedModel(run / "model.pt")
        self.desk = Desk(run, index, model, images, Limits(**limits))
        opened = server.listen("127.0.0.1", 0)
        self.server = server.make_server(make_app(self.desk, token))
        self.thread = threading.Thread(target=server.run, args=(self.server, opened))
        self.thread.start()
        super().__init__(f"http://127.0.0.1:{opened.getsockname()[1]}")

    def stop(self):
        self.client.close()
        self.server.should_exit = True
        self.thread.join(60)
        assert not self.thread.is_alive()


class Service(Client):
    """serve.py of a run in a process of its own."""

    def __init__(self, run, *options, **environment):
        command = [sys.executable, SCRIPTS / "serve.py", "--run", run, "--port", "0", *options]
        # What a killed process leaves behind stays with the run.
        temporary = run.parent / "temporary"
        temporary.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": str(temporary), **environment},
        )
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if found := re.match(r"(http://\S+:\d+) ", line):
                super().__init__(found.group(1))
                return
        raise RuntimeError("".join(lines))

    def kill(self):
        self.process.kill()
        self.process.communicate()
        self.client.close()

    def stop(self):
        """Ask it to end; returns what it wrote. It must end by itself."""
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        text, _ = self.process.communicate(timeout=40)
        return text


@contextlib.contextmanager
def served(run, *options):
    """A `Service` for the time of a block."""
    service = Service(run, *options)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.kill()


def copy_of(run, folder):
    """The results of a tiny run, copied to ``folder``; returns the run's folder there."""
    results = run.parents[3]
    shutil.copytree(results, folder)
    return folder / run.relative_to(results)


def changed(run, moment, name, photographs=()):
    """Change the index in a process that is killed at a moment ("never" is none): see killed.py."""
    program = Path(__file__).with_name("killed.py")
    command = [sys.executable, program, run, moment, name, *photographs]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run(
        [str(word) for word in command], env=environment, capture_output=True, text=True
    )
    assert done.returncode == (0 if moment == "never" else -9), done.stdout + done.stderr


def wait_for(condition, seconds=30):
    """Wait until ``condition()`` is true; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def stored(run):
    """index.json of the enrolled index."""
    return json.loads((run / "index_enrolled" / "index.json").read_text(encoding="utf-8"))
