"""What each rule of a study requests: `memory_requests` with the study's recipes and data sets."""

import os
from pathlib import Path

from dmlstudy.plan import memory_requests as requests
from dmlstudy.plan.memory_requests import MB


def card_here():
    """Whether this machine has an NVIDIA GPU. Planning does not import torch to find out."""
    return Path("/dev/nvidia0").exists()


class RuleMemory:
    """Memory in MB per rule. Sizes of data sets are read again at each call, since manifests appear.

    ``study``: a `Study`; ``files``: its `Layout`; ``on_gpu``: whether trainings get a GPU.
    """

    def __init__(self, study, files, *, on_gpu):
        self.study, self.files, self.on_gpu = study, files, on_gpu
        self.models = len(study.class_sets)

    def data(self, dataset):
        manifest = self.files.data(dataset, "manifest.csv")
        return requests.size_of(self.study.datasets[dataset], manifest)

    def _packs(self, dataset, resizes):
        """MB of packs: the size of their files, or an estimate while they do not exist."""
        total = 0
        for name in dict.fromkeys(resizes):
            path = Path(self.files.data(dataset, f"pack_{name}"), "pixels.bin")
            exists = path.is_file()
            total += (
                os.path.getsize(path) / MB if exists else requests.packs(self.data(dataset), [name])
            )
        return total

    def _training(self, recipe, dataset, entry):
        if not recipe.backbone_trains:
            facts, on_gpu = self.study.facts_of(entry), self.on_gpu
            return requests.head_training(recipe, facts, self.data(dataset), on_gpu=on_gpu)
        resizes = self.study.resizes(entry)
        return requests.training(
            recipe,
            self.study.facts_of(entry),
            self.data(dataset),
            self._packs(dataset, resizes if recipe.epochs else resizes[1:]),
            on_gpu=self.on_gpu,
        )

    def _recipes(self, experiment):
        """The recipes that an experiment may get: its own, or those of its candidates."""
        study = self.study
        recipe = study.run_recipe(experiment, study.seeds[0])
        tried = study.candidates.get(experiment, {})
        selected = (study.candidate_recipe(experiment, name) for name in tried)
        return [recipe, *(one.changed(epochs=recipe.epochs) for one in selected)]

    def run(self, experiment):
        entry = self.study.experiments[experiment]
        return max(
            self._training(recipe, self.study.name, entry) for recipe in self._recipes(experiment)
        )

    def candidate(self, experiment, candidate):
        recipe = self.study.candidate_recipe(experiment, candidate)
        return self._training(recipe, self.study.name, self.study.experiments[experiment])

    def features(self, name):
        entry, _, _ = self.files.feature_sets()[name]
        packs = self._packs(self.study.name, self.study.read_packs(entry))
        facts, data = self.study.facts_of(entry), self.data(self.study.name)
        return requests.features(entry, facts, data, packs, on_gpu=self.on_gpu)

    def initializer(self, name, backbone):
        entry = self.study.initializers[name]
        dataset = self.study.name if entry["dataset"] == "study" else entry["dataset"]
        recipe = self.study.initializer_recipe(name, backbone, self.study.seeds[0])
        return self._training(recipe, dataset, self.study.initializer_entry(name, backbone))

    def _width(self, experiment):
        facts = self.study.facts_of(self.study.experiments[experiment])
        return max(requests.width(recipe, facts) for recipe in self._recipes(experiment))

    def _own(self):
        return self.data(self.study.name)

    def explain(self, experiment):
        study, entry = self.study, self.study.experiments[experiment]
        shown = 2 * study.config["explanation"]["queries"]
        return requests.explanation(
            study.facts_of(entry),
            self._own(),
            entry["image_size"],
            self._width(experiment),
            self.models,
            shown + study.config["explanation"]["evaluated_queries"],
            self._packs(study.name, study.resizes(entry)[1:]),
        )

    def evaluate(self, experiment):
        models = self.models * len(self.study.seeds)
        return requests.evaluation(self._own(), models, self._width(experiment))

    def suspects(self, experiment):
        return requests.suspects(self._own(), self._width(experiment))

    def answer(self, experiment):
        return requests.answering(self._own(), self._width(experiment), self._random_features())

    def rejection(self, experiment):
        return requests.rejection(self._own(), self._width(experiment))

    def map(self, experiment):
        return requests.mapping(self._own(), self._width(experiment))

    def gallery(self, experiment):
        return requests.gallery(self._own(), self._width(experiment), self._random_features())

    def _random_features(self):
        return max(piece.get("width", 0) for piece in self.study.answers)

    def compare(self):
        models = self.models * len(self.study.seeds)
        seeds, ways = len(self.study.seeds), len(self.study.answers)
        sizes = len(self.study.config["evaluation"]["enrolment_images"]) + 2
        options = len(self.study.experiments) * ways * sizes
        return requests.comparison(
            self._own(), len(self.study.experiments), models
        ) + requests.options(self._own(), options, seeds)

    def measure_models(self):
        facts = [(self.study.facts_of(entry), entry) for entry in self.study.experiments.values()]
        return max(requests.measuring(one, entry, on_gpu=self.on_gpu) for one, entry in facts)

    def health(self):
        models = self.models * len(self.study.seeds)
        return requests.comparison(self._own(), experiments=2, models=models)

    def report(self):
        return requests.report(self._own(), self.models * len(self.study.seeds))

    def index_page(self):
        models = self.models * len(self.study.seeds)
        return requests.index_page(self._own(), len(self.study.experiments), models)

    def tables(self, dataset):
        return requests.tables(self.data(dataset))

    def thumbnails(self, dataset, resize):
        packs = self._packs(dataset, [resize])
        return requests.thumbnails(self.data(dataset), requests.THUMBNAIL, packs)

    def listing(self, dataset):
        return self._images(requests.listing, dataset)

    def packing(self, dataset):
        return self._images(requests.packing, dataset)

    def _images(self, request, dataset):
        threads = self.study.config["protocol"]["compute_threads"]
        return request(self.data(dataset), threads, self.study.datasets[dataset]["max_pixels"])
