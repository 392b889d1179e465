"""A study with random embeddings, without training: tables and pages of any size within seconds.

Images are pieces of the two photographs in scikit-learn, so that they compress like photographs. Every
table is made by the project's own programs.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from measuring import PROJECT
from PIL import Image

from dmlstudy.core.files import write_json, write_text
from dmlstudy.data.dataset import make_class_set, make_split, write_csv
from dmlstudy.evaluate.search import nearest_neighbours
from dmlstudy.explain.heatmap_files import Heatmaps, save_heatmaps
from dmlstudy.explain.localisation import CORNERS

SEED = 42


def draw_photographs(count, *, shorter=224, longer=300, seed=0):
    """``count`` pieces (shorter, longer, 3) of photographs, uint8, at several scales, some of them flipped."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(seed)
    images = [Image.fromarray(image) for image in load_sample_images().images]
    found = []
    for index in range(count):
        image = images[index % len(images)]
        height = int(rng.integers(120, image.height))
        width = min(image.width, round(height * longer / shorter))
        left = int(rng.integers(0, image.width - width + 1))
        top = int(rng.integers(0, image.height - height + 1))
        piece = image.crop((left, top, left + width, top + height)).resize((longer, shorter))
        pixels = np.asarray(piece)
        found.append(pixels[:, ::-1] if rng.random() < 0.5 else pixels)
    return np.stack(found)


class DrawnStudy:
    """Files of a study in ``folder``, as the rules would write them.

    ``class_names``: names of all classes; ``images``: number of images; ``unseen``: number of unseen
    classes (the last ones); ``experiments``: {name: distance between its classes}; ``photographs``:
    number of different images.
    """

    def __init__(
        self, folder, class_names, images, unseen, experiments, *, photographs=60, dim=128
    ):
        self.folder, self.experiments = Path(folder), experiments
        self.data = self.folder / "data"
        self.pack = self.data / "pack_shorter224"
        self.sets = ["all_classes", "limited_classes"]
        classes = len(class_names)
        class_ids = np.sort(np.arange(images) % classes)
        manifest = pd.DataFrame(
            {
                "image_id": range(images),
                "path": [f"{class_id}/{index}.jpg" for index, class_id in enumerate(class_ids)],
                "class_id": class_ids,
                "class_name": [class_names[index] for index in class_ids],
                "width": 400,
                "height": 300,
            }
        )
        split = make_split(manifest, method="stratified", test_share=0.2, seed=SEED)
        write_csv(self.data / "manifest.csv", manifest)
        write_json(self.folder / "study.json", {"dataset": "drawn", "drawn": False})
        write_csv(self.data / "split.csv", split)
        for name, left_out in zip(self.sets, (0, unseen), strict=True):
            table = make_class_set(classes, name, unseen=left_out)
            write_csv(self.data / "class_sets" / f"{name}.csv", table)
        pool = draw_photographs(photographs)
        self.pack.mkdir(parents=True)
        pool.tofile(self.pack / "pixels.bin")
        np.savez(
            self.pack / "index.npz",
            offsets=(np.arange(images) % photographs) * pool[0].size,
            heights=np.full(images, pool.shape[1]),
            widths=np.full(images, pool.shape[2]),
        )
        test = (split["part"] == "test").to_numpy()
        for number, (name, distance) in enumerate(experiments.items()):
            self._draw(number, name, distance, class_ids, test, classes - unseen, dim)
            self._draw_heatmaps(name, class_ids, class_names, np.flatnonzero(test)[:24])

    def _draw(self, number, name, distance, class_ids, test, known, dim):
        folder = self.folder / "experiments" / name
        recipe = {
            "backbone": "resnet18",
            "head": {"kind": "linear", "embedding_dim": dim},
            "epochs": 100,
            "batch_size": 32,
            "samples_per_class": None,
            "compute_threads": 1,
            "image_size": 224,
        }
        text = yaml.safe_dump({"experiment": name, "details": "drawn", "recipe": recipe})
        write_text(folder / "config.yaml", text)
        for side, class_set in enumerate(self.sets):
            rng = np.random.default_rng([number, side])
            centres = rng.normal(size=(class_ids.max() + 1, dim)) * distance
            if side:
                centres[known:] *= 0.7
            values = centres[class_ids] + rng.normal(size=(len(class_ids), dim))
            values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
            run = folder / f"seed{SEED}" / class_set
            run.mkdir(parents=True)
            np.savez(
                run / "embeddings.npz",
                gallery_embeddings=values[~test],
                gallery_image_ids=np.flatnonzero(~test),
                query_embeddings=values[test],
                query_image_ids=np.flatnonzero(test),
            )
            epochs = np.arange(1, 101)
            # A training only knows the classes that it trained on.
            trained = class_ids < known if side else np.ones_like(test)
            asked, searched = test & trained, ~test & trained
            _, nearest = nearest_neighbours(values[asked], values[searched])
            accuracy = (class_ids[searched][nearest[:, 0]] == class_ids[asked]).mean()
            curve = {
                "epoch": epochs,
                "train_loss": 3 / np.sqrt(epochs),
                # The evaluation refuses a curve that does not end at what the embeddings give.
                "test_accuracy": accuracy * (1.06 - 0.6 / np.sqrt(epochs)),
                "seconds": epochs * 1.0,
            }
            write_csv(run / "curves.csv", pd.DataFrame(curve))
            write_json(
                run / "cost.json",
                {
                    "device": "cpu",
                    "evaluation_seconds": 2.0,
                    "images_per_second": 50.0 + number,
                    "peak_device_memory_mb": None,
                    "peak_host_memory_mb": 900.0,
                    "torch": "none",
                    "total_seconds": 3600.0 + number,
                    "train_seconds": 3500.0,
                },
            )

    def _draw_heatmaps(self, name, class_ids, class_names, queries):
        """Heat maps of the true class by both models, with one hot spot each, without boxes."""
        rng = np.random.default_rng(0)
        rows = [
            {
                "image_id": query,
                "class_set": class_set,
                "which": "true_class",
                "class_id": class_ids[query],
                "class_name": class_names[class_ids[query]],
                "unseen": 0,
                "correct": 1,
                "share_in_box": None,
                "pointing_hit": None,
                **dict.fromkeys(CORNERS),
            }
            for query in queries
            for class_set in self.sets
        ]
        table = pd.DataFrame(rows)
        table.insert(0, "map", range(len(table)))
        save_heatmaps(
            self.folder / "experiments" / name / f"seed{SEED}" / "heatmaps",
            Heatmaps(
                table=table,
                maps=rng.integers(0, 256, (len(table), 7, 7), dtype=np.uint8),
                localisation=pd.DataFrame(columns=["map"]),
                layer="layer4",
                image_size=224,
                resize="shorter224",
            ),
        )

    def copy(self, name, others):
        """Add experiments that are copies of ``name`` with all that was made of it."""
        folder = self.folder / "experiments"
        for other in others:
            shutil.copytree(folder / name, folder / other)
            for path in (folder / other).glob("*.*"):
                if path.suffix in (".csv", ".json", ".yaml"):
                    text = path.read_text(encoding="utf-8")
                    write_text(path, text.replace(name, other))
            self.experiments[other] = self.experiments[name]

    def run(self, program, *arguments):
        """Run one of the project's programs, as rules do; RuntimeError with its output if it fails."""
        scripts = PROJECT / "workflow/scripts"
        command = [sys.executable, "-S", scripts / "start.py", scripts / program, *arguments]
        done = subprocess.run(
            [str(word) for word in command],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode:
            raise RuntimeError(f"{program}:\n{done.stdout}")

    def class_sets_options(self):
        """The option that most programs share."""
        sets = [self.data / "class_sets" / f"{name}.csv" for name in self.sets]
        return ["--class-sets", *sets]

    def evaluate(self, *, bootstrap_draws=200, enrolment_draws=2):
        """Tables of every experiment."""
        for name in self.experiments:
            self.run(
                "evaluate.py", "--experiment", self.folder / "experiments" / name,
                "--seeds", SEED, "--data", "drawn embeddings",
                "--manifest", self.data / "manifest.csv", "--split", self.data / "split.csv",
                "--enrolment-draws", enrolment_draws, "--bootstrap-draws", bootstrap_draws,
                *self.class_sets_options(),
            )  # fmt: skip

    def check_health(self, *, bootstrap_draws=200):
        """Table of the health of every experiment. None has an untrained row."""
        for name in self.experiments:
            folder = self.folder / "experiments" / name
            self.run(
                "check_health.py", "--experiment", folder, "--seeds", SEED,
                "--data", "drawn embeddings", "--bootstrap-draws", bootstrap_draws,
                "--out", folder / "health.csv", *self.class_sets_options(),
            )  # fmt: skip

    def score_rejection(self, *, bootstrap_draws=200):
        """Tables of the rejection of every experiment."""
        for name in self.experiments:
            folder = self.folder / "experiments" / name
            self.run(
                "score_rejection.py", "--experiment", folder, "--seeds", SEED,
                "--data", "drawn embeddings", "--bootstrap-draws", bootstrap_draws,
                "--manifest", self.data / "manifest.csv", "--split", self.data / "split.csv",
                "--out-scores", folder / "rejection_scores.csv",
                "--out-thresholds", folder / "rejection_thresholds.csv", *self.class_sets_options(),
            )  # fmt: skip

    def suspect_labels(self, name):
        """Table and page of the suspected labels of an experiment."""
        folder, tables = self.folder / "experiments" / name, self.data / "class_sets"
        self.run(
            "suspect_labels.py", "--experiment", name, "--note", "Embeddings are drawn.",
            "--embeddings", folder / f"seed{SEED}" / self.sets[0] / "embeddings.npz",
            "--manifest", self.data / "manifest.csv", "--split", self.data / "split.csv",
            "--class-set", tables / f"{self.sets[0]}.csv", "--pack", self.pack,
            "--out-table", folder / "suspected_labels.csv",
            "--out-page", folder / "suspected_labels.html",
        )  # fmt: skip

    def answer(
        self,
        *,
        bootstrap_draws=200,
        enrolment_draws=2,
        answers=("nearest", "class_mean", "lda"),
    ):
        """Tables of the ways of answering of every experiment."""
        for name in self.experiments:
            folder = self.folder / "experiments" / name
            self.run(
                "answer.py", "--experiment", folder, "--seeds", SEED, "--data", "drawn embeddings",
                "--manifest", self.data / "manifest.csv", "--split", self.data / "split.csv",
                "--answers", json.dumps([{"kind": kind} for kind in answers]),
                "--enrolment-draws", enrolment_draws, "--bootstrap-draws", bootstrap_draws,
                "--out", folder, *self.class_sets_options(),
            )  # fmt: skip

    def rows(self, *wanted):
        """What the plan says of some experiments: every one is like the first."""
        first = next(iter(self.experiments))
        return [
            {"experiment": name, "block": "published", "details": "drawn", "untrained": False,
             "trained": "backbone",
             "like": first if name != first else None,
             "start_row": None, "starts_from": ["resnet18", "drawn"]}
            for name in dict.fromkeys(wanted)
        ]  # fmt: skip

    def compare(self, *, bootstrap_draws=200):
        """Tables of the comparison."""
        names, rows = list(self.experiments), self.rows(*self.experiments)
        reproduction = {"obstacle": "embeddings are drawn", "matches": {}}
        models = self.folder / "comparison" / "model_costs.csv"
        sizes = {"parameters": 11_000_000, "trained_parameters": 11_000_000, "gflop": 3.6}
        measured = {**sizes, "milliseconds_a_photograph": 8.0, "device": "cpu"}
        write_csv(models, pd.DataFrame({"experiment": name, **measured} for name in names))
        self.run(
            "compare.py", "--experiments", self.folder / "experiments",
            "--rows", json.dumps(rows), "--seeds", SEED, "--baseline", names[0],
            "--data", "drawn embeddings", "--published", PROJECT / "config/published.csv",
            "--published-deductions", PROJECT / "config/published_deductions.csv",
            "--reproduction", json.dumps(reproduction), "--published-size", 9430, 2358,
            "--model-costs", models, "--start-costs", "{}",
            "--out", self.folder / "comparison", "--bootstrap-draws", bootstrap_draws,
            *self.class_sets_options(),
        )  # fmt: skip

    def runs(self, *names):
        """Folders of the runs of some experiments."""
        experiments = self.folder / "experiments"
        return [experiments / name / f"seed{SEED}" / one for name in names for one in self.sets]

    def map(self, *names):
        """UMAP of both models of some experiments."""
        self.run(
            "map_embeddings.py", "--runs", *self.runs(*names), "--seed", SEED,
            "--manifest", self.data / "manifest.csv",
        )  # fmt: skip

    def thumbnails(self):
        self.run(
            "make_thumbnails.py", "--pack", self.pack, "--manifest", self.data / "manifest.csv",
            "--side", 40, "--out", self.data / "thumbnails.webp",
        )  # fmt: skip

    def report(self, name, *, bootstrap_draws=200):
        """The page of an experiment; its path."""
        folder = self.folder / "experiments" / name
        links = {"index": ["../../comparison/index.html", "../index/index.html"]}
        self.run(
            "report.py", "--experiment", folder, "--seeds", SEED, *self.class_sets_options(),
            "--manifest", self.data / "manifest.csv", "--split", self.data / "split.csv",
            "--pack", self.pack, "--thumbnails", self.data / "thumbnails.webp", "--note", "Embeddings are drawn.",
            "--links", json.dumps(links), "--study", self.folder / "study.json",
            "--rows", json.dumps(self.rows(next(iter(self.experiments)), name)),
            "--baseline", next(iter(self.experiments)), "--bootstrap-draws", bootstrap_draws,
            "--near", 4, "--out", folder / "report.html", "--out-beside", folder / "beside.js",
        )  # fmt: skip
        return folder / "report.html"

    def index(self, *, bootstrap_draws=200):
        """The page of all experiments; its path."""
        from urllib.parse import quote

        links = {
            name: [f"../experiments/{quote(name)}/report.html", "../x/report.html"]
            for name in self.experiments
        }
        out = self.folder / "comparison"
        self.run(
            "compare_page.py", "--comparison", out, "--results", self.folder,
            "--manifest", self.data / "manifest.csv", "--split", self.data / "split.csv",
            *self.class_sets_options(), "--seeds", SEED, "--bootstrap-draws", bootstrap_draws,
            "--pack", self.pack, "--thumbnails", self.data / "thumbnails.webp",
            "--note", "Embeddings are drawn.", "--links", json.dumps(links), "--out", out,
        )  # fmt: skip
        return out / "index.html"
