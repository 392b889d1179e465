"""Where the files of a study lie, and which of them each job reads."""

import contextlib

from dmlstudy.core.files import StudyError
from dmlstudy.core.registry import backbone_file_name
from dmlstudy.data.formats.csv_columns import table_path
from dmlstudy.plan.identity import local_files, local_source
from dmlstudy.plan.study import ALL_CLASSES

# Of `index.threshold`; see `evaluate.thresholds`.
HELD_OUT = "held_out_classes"
COMPARISON_TABLES = (
    "experiments",
    "differences",
    "metrics",
    "curves",
    "enrolment",
    "rejection",
    "answers",
    "rejection_scores",
    "rejection_thresholds",
    "health",
    "published",
    "published_deductions",
    "costs",
    "pretraining",
    "answers_costs",
    "verdict",
    "verdict_costs",
)
# Tables of an experiment about its ways of answering, without their ending.
ANSWER_TABLES = ("answers", "answers_enrolment", "answers_costs")
# Which queries they name correctly; see `evaluate.answer_hits`.
ANSWER_HITS = "answers_hits.npz"


class Layout:
    """Names of files under ``results``, for a `Study`; what a job reads as {name: path or paths}.

    ``by_digest(path)``: marks a file that is too large to be compared by content and is followed through
    its digest, which is read as well; Snakemake's ``ancient``. ``sources``: {data set: local path or
    None}; ``drawn``, ``folders``, ``downloaded``, ``unpacked``, ``gathered`` (of several files): names of
    data sets that come to be so. ``downloaded_files``: names of files that are downloaded.
    """

    def __init__(self, results, study, by_digest):
        self.results, self.study, self.by_digest = results, study, by_digest
        datasets = study.datasets
        self.sources = {name: local_source(dataset) for name, dataset in datasets.items()}
        self.drawn = [name for name, dataset in datasets.items() if dataset["drawn"]]
        self.folders = [name for name, path in self.sources.items() if path and path.is_dir()]
        self.gathered = [name for name, dataset in datasets.items() if dataset["files"]]
        self.downloaded = [
            name
            for name in datasets
            if name not in (*self.drawn, *self.gathered) and self.sources[name] is None
        ]
        self.unpacked = [name for name in datasets if name not in (*self.folders, *self.gathered)]
        self.downloaded_files = sorted(
            {
                file
                for name in self.gathered
                for file in datasets[name]["files"]
                if file not in local_files(datasets[name])
            }
        )

    # Data sets.

    def data(self, dataset, name):
        return f"{self.results}/data/{dataset}/{name}"

    def archive(self, dataset):
        """The archive of a data set and, where it is ours, its digest."""
        if self.sources[dataset] is not None:
            return {"archive": self.by_digest(str(self.sources[dataset]))}
        path = self.data(dataset, "archive")
        return {"archive": self.by_digest(path), "digest": f"{path}.sha256"}

    def files(self, dataset):
        """The files that a data set is gathered from and, where they are ours, their digests."""
        entry = self.study.datasets[dataset]
        local, paths, digests = local_files(entry), [], []
        for name in entry["files"]:
            path = str(local[name]) if name in local else self.data(dataset, f"files/{name}")
            paths.append(self.by_digest(path))
            digests += [] if name in local else [f"{path}.sha256"]
        return {"files": paths, "digests": digests}

    def image_files(self, dataset):
        """Files that hold a data set's images: unpacked ones, or none for a folder of the user's."""
        if dataset in self.folders:
            return {}
        return {
            "images": self.by_digest(self.data(dataset, "images")),
            "contents": self.data(dataset, "contents.json"),
        }

    def group_files(self, dataset):
        """What tells which photographs of the study's own data set must stand in one part."""
        protocol, entry = self.study.config["protocol"], self.study.datasets[dataset]
        found = {}
        if protocol["duplicates"] != "keep":
            found["copies"] = self.data(dataset, "copies.csv")
        if (protocol["group_by"] or {}).get("column") is not None:
            if dataset in self.folders:
                # The manifest does not follow this column. What reads the table says why there is none.
                with contextlib.suppress(StudyError):
                    found["table"] = str(table_path(self.image_folder(dataset), entry["csv"]))
            else:
                found |= self.image_files(dataset)
        return found

    def image_folder(self, dataset):
        if dataset in self.folders:
            return str(self.sources[dataset])
        return self.data(dataset, "images")

    def tables(self, dataset, *class_sets):
        return {
            "manifest": self.data(dataset, "manifest.csv"),
            "split": self.data(dataset, "split.csv"),
            # Compared: a changed param alone is not noticed while a job upstream has to run.
            "class_set": [self.data(dataset, f"class_sets/{name}.csv") for name in class_sets],
        }

    def packs(self, dataset, recipe):
        """Training and test pack of a recipe."""
        inputs = {}
        for part, resize in zip(("train", "test"), self.study.resizes(recipe), strict=True):
            folder = self.data(dataset, f"pack_{resize}")
            inputs[f"{part}_pixels"] = self.by_digest(f"{folder}/pixels.bin")
            inputs[f"{part}_index"] = self.by_digest(f"{folder}/index.npz")
            inputs[f"{part}_digest"] = f"{folder}/pixels.bin.sha256"
        return inputs

    def test_pack(self, experiment):
        """The folder of the pack that an experiment is tested with."""
        recipe = self.study.experiments[experiment]
        return self.data(self.study.name, f"pack_{self.study.resizes(recipe)[1]}")

    def test_pack_files(self, experiment):
        inputs = self.packs(self.study.name, self.study.experiments[experiment])
        return {name: path for name, path in inputs.items() if name.startswith("test_")}

    # Initializers.

    def weights(self, initializer, backbone, class_set, seed):
        """An initializer's weights for one backbone; nothing for random weights."""
        if self.study.initializers[initializer]["kind"] == "scratch":
            return {}
        name = self.weights_name(initializer, backbone, class_set, seed)
        path = f"{self.results}/initializers/{name}.weights"
        return {"weights": self.by_digest(path), "weights_digest": f"{path}.sha256"}

    def weights_name(self, initializer, backbone, class_set, seed):
        """What tells the weights of an initializer apart, as a path."""
        entry, folder = self.study.initializers[initializer], initializer
        if entry["kind"] == "trained":
            if entry["dataset"] != "study":
                class_set = ALL_CLASSES
            seed = seed if entry["seed"] is None else entry["seed"]
            folder = f"{folder}/{class_set}/seed{seed}"
        return f"{folder}/{backbone_file_name(backbone)}"

    def initializer_inputs(self, initializer, backbone, class_set, seed):
        recipe = self.study.initializer_entry(initializer, backbone)
        dataset = self.study.initializers[initializer]["dataset"]
        dataset = self.study.name if dataset == "study" else dataset
        return {
            **self.tables(dataset, class_set),
            **self.packs(dataset, recipe),
            **self.weights(recipe["initializer"], backbone, class_set, seed),
        }

    # Stored features.

    def feature_sets(self):
        """{name: (complete entry, class set, seed)} of all features that are stored.

        The name is a path: whose weights, which backbone, size of the images, how they are resized.
        """
        study, found = self.study, {}
        for experiment in study.on_features:
            entry = study.experiments[experiment]
            wanted = [(name, seed) for seed in study.seeds for name in study.class_sets]
            if experiment in study.candidates:
                wanted.append((ALL_CLASSES, study.selection_seed))
            for class_set, seed in wanted:
                found[self.feature_set(entry, class_set, seed)] = (entry, class_set, seed)
        return found

    def feature_set(self, entry, class_set, seed):
        weights = self.weights_name(entry["initializer"], entry["backbone"], class_set, seed)
        return f"{weights}_{entry['image_size']}_{self.study.resizes(entry)[1]}"

    def feature_inputs(self, name):
        """What the features ``name`` are computed from."""
        entry, class_set, seed = self.feature_sets()[name]
        packs = self.packs(self.study.name, entry)
        return {
            **{key: path for key, path in packs.items() if key.startswith("test_")},
            **self.weights(entry["initializer"], entry["backbone"], class_set, seed),
        }

    def feature_recipe(self, name):
        """The `FeatureRecipe` of the features ``name``."""
        return self.study.feature_recipe(self.feature_sets()[name][0])

    def features(self, entry, class_set, seed):
        """The stored features that a training of a complete entry reads."""
        name = self.feature_set(entry, class_set, seed)
        path = f"{self.results}/features/{name}/features.npy"
        return {"features": self.by_digest(path), "features_digest": f"{path}.sha256"}

    def _images(self, entry, class_set, seed):
        """What a training of a complete entry reads its images from: packs, or stored features."""
        if entry["backbone_trains"]:
            return self.packs(self.study.name, entry)
        return self.features(entry, class_set, seed)

    # Runs and candidates.

    def run_folder(self, experiment="{experiment}", seed="{seed}"):
        return f"{self.results}/experiments/{experiment}/seed{seed}"

    def run_outputs(self):
        """What a training writes, with wildcards."""
        folder = f"{self.run_folder()}/{{class_set}}"
        return {
            "model": f"{folder}/model.pt",
            "embeddings": f"{folder}/embeddings.npz",
            "curve": f"{folder}/curves.csv",
            "cost": f"{folder}/cost.json",
        }

    def candidate_outputs(self):
        """What the training of a candidate writes, with wildcards."""
        path = f"{self.results}/experiments/{{experiment}}/selection/{{candidate}}"
        return {"scores": f"{path}.json", "cost": f"{path}_cost.json"}

    def run_inputs(self, experiment, class_set, seed):
        recipe = self.study.experiments[experiment]
        return {
            **self.tables(self.study.name, class_set),
            **self._images(recipe, class_set, seed),
            **self.weights(recipe["initializer"], recipe["backbone"], class_set, seed),
            **self.chosen_values(experiment),
        }

    def chosen_values(self, experiment):
        """The file that completes a recipe of which some values are selected; nothing for most."""
        if experiment not in self.study.candidates:
            return {}
        return {"chosen": f"{self.results}/experiments/{experiment}/selection/chosen.json"}

    def candidate_inputs(self, experiment):
        recipe, seed = self.study.experiments[experiment], self.study.selection_seed
        return {
            "images": self.data(self.study.name, "selection.csv"),
            **self._images(recipe, ALL_CLASSES, seed),
            **self.weights(recipe["initializer"], recipe["backbone"], ALL_CLASSES, seed),
        }

    def candidate_scores(self, experiment):
        folder = f"{self.results}/experiments/{experiment}/selection"
        return [f"{folder}/{candidate}.json" for candidate in self.study.candidates[experiment]]

    def health_inputs(self, experiment):
        """What the health of an experiment's trainings is told from."""
        names = ("curves.csv", "metrics.csv", "queries.csv", "summary.json")
        start = self.study.start_row(experiment)
        return {
            "tables": self._of_runs(experiment, names),
            "start": self._of_runs(start, ["queries.csv"]) if start else [],
            "recipe": f"{self.results}/experiments/{experiment}/config.yaml",
            "class_set": self.tables(self.study.name, *self.study.class_sets)["class_set"],
        }

    def index_inputs(self, experiment, class_set, seed, way):
        """What the threshold of an index is chosen with, beside the run itself.

        A trained model of all classes has no class that it was not trained on. Its limited models stand in for it.
        """
        study = self.study
        if way != HELD_OUT or class_set != ALL_CLASSES or not study.fitted(experiment):
            return {"limited": [], "limited_sets": []}
        return {
            "limited": [
                f"{self.run_folder(experiment, seed)}/{name}/embeddings.npz"
                for name in study.limited
            ],
            "limited_sets": self.tables(study.name, *study.limited)["class_set"],
        }

    def _of_runs(self, experiment, names):
        """Tables of all runs of an experiment."""
        return [
            f"{self.run_folder(experiment, seed)}/{class_set}/{name}"
            for seed in self.study.seeds
            for class_set in self.study.class_sets
            for name in names
        ]

    def answer_tables(self, experiment="{experiment}"):
        return [f"{self.results}/experiments/{experiment}/{name}.csv" for name in ANSWER_TABLES]

    def answer_hits(self, experiment="{experiment}"):
        return f"{self.results}/experiments/{experiment}/{ANSWER_HITS}"

    def embedding_inputs(self, experiment):
        """What ways of answering and scores of rejection read.

        All models of a row that was not fitted are one: the all-classes model stands for the limited ones.
        """
        study = self.study
        models = study.class_sets if study.fitted(experiment) else [ALL_CLASSES]
        return {
            **self.tables(study.name, *study.class_sets),
            "embeddings": [
                f"{self.run_folder(experiment, seed)}/{class_set}/embeddings.npz"
                for seed in study.seeds
                for class_set in models
            ],
        }

    # What a verdict is told from, beside the tables.

    def model_costs(self):
        return f"{self.results}/comparison/model_costs.csv"

    def model_inputs(self):
        """Files that complete models of which a part is selected."""
        study = self.study
        return {
            name: self.chosen_values(name)["chosen"]
            for name in study.candidates
            if set(study.selected(name)) & set(study.models[name])
        }

    # What people look at.

    def maps(self):
        """The maps that a page shows: of the first seed's all-classes model and first limited one."""
        folder = self.run_folder(seed=self.study.seeds[0])
        return [f"{folder}/{name}/map.csv" for name in list(self.study.class_sets)[:2]]

    def compared_inputs(self, others):
        """What the page of an experiment reads of each of ``others``, to compare the experiment with it."""
        found = []
        for name in others:
            folder = f"{self.results}/experiments/{name}"
            found += [f"{folder}/summary.csv", f"{folder}/config.yaml"]
            found += self._of_runs(name, ["queries.csv", "cost.json"])
        return found

    def report_page(self, experiment):
        return f"{self.results}/experiments/{experiment}/report.html"

    def index_page(self):
        return f"{self.results}/comparison/index.html"

    def watch_page(self):
        """The page that `make watch` writes; no rule makes or reads it."""
        return f"{self.results}/watch.html"

    def comparison_tables(self):
        return [f"{self.results}/comparison/{name}.csv" for name in COMPARISON_TABLES]

    def tracking_files(self, class_sets):
        """What became of each run that the tracker was told of, limited ones of ``class_sets``."""
        return [
            f"{self.run_folder(experiment, seed)}/{class_set}/tracking.json"
            for experiment in self.study.experiments
            for seed in self.study.seeds
            for class_set in class_sets
        ]

    def final_targets(self, tracked):
        """Everything; ``tracked``: class sets of which a tracker is told."""
        study = self.study
        return [
            *self.comparison_tables(),
            self.index_page(),
            *([f"{self.results}/comparison/tuning.csv"] if study.candidates else []),
            *(self.report_page(name) for name in study.experiments),
            *(f"{self.results}/experiments/{name}/config.yaml" for name in study.experiments),
            *self.tracking_files(tracked),
        ]
