"""The study as plain values: what is trained, on what, and from which weights.

The workflow asks it what to plan. It knows nothing of Snakemake.
"""

from dataclasses import dataclass

from dmlstudy.core import registry, source_code
from dmlstudy.data.resizing import Resize
from dmlstudy.plan.recipe import FeatureRecipe, Recipe
from dmlstudy.plan.recipes import PIECES

ALL_CLASSES = "all_classes"
LIMITED_CLASSES = "limited_classes"

# Keys of a complete entry that a training needs. The others describe the entry.
TRAINED_BY = (
    "backbone",
    "frozen_batchnorm",
    "backbone_trains",
    *PIECES,
    "loss_lr",
    "backbone_lr",
    "clip_gradients",
    "epochs",
    "batch_size",
    "samples_per_class",
)
# Keys of a complete entry that decide what its model is and which of its weights train.
MODEL_KEYS = (
    "backbone",
    "image_size",
    "head",
    "frozen_batchnorm",
    "backbone_trains",
    "trained_parts",
)
# Keys of the protocol that every training depends on.
NUMERICS = ("precision", "cuda_graphs", "compute_threads")


@dataclass
class Study:
    """A checked study; `planning.plan` makes it.

    ``config``: the whole configuration. ``entries``: {experiment: its entry as written}.
    ``inherited``: {experiment: its entry with all that it inherits}. ``experiments``: {name: complete
    entry} of all rows, the untrained ones last. ``untrained``: names of those. ``candidates``:
    {experiment with a selection: {candidate: {"values", "recipe"}}}. ``initializers``, ``datasets``:
    by name. ``facts``: {(backbone, image size): facts, as of `backbones.Describer`} of all that are
    used. ``answers``: complete pieces of the ways of answering, the nearest neighbour first.

    Until it is chosen, a selected value is what the entry inherits: `known` leaves it out.
    """

    config: dict
    entries: dict
    inherited: dict
    experiments: dict
    untrained: list
    candidates: dict
    initializers: dict
    datasets: dict
    facts: dict
    answers: list

    @property
    def name(self):
        """Name of the data set that the study is about."""
        return self.config["dataset"]["name"]

    @property
    def synthetic(self):
        return bool(self.config["dataset"]["drawn"])

    # Class sets.

    @property
    def seeds(self):
        return self.config["protocol"]["seeds"]

    @property
    def class_sets(self):
        """{class set: {"unseen": number of classes left out, "seed": of a random draw}}."""
        protocol = self.config["protocol"]
        unseen = protocol["unseen_classes"]
        sets = {ALL_CLASSES: {"unseen": 0}, LIMITED_CLASSES: {"unseen": unseen}}
        for draw in range(1, protocol["unseen_draws"] + 1):
            seed = [protocol["split_seed"], draw]
            sets[f"{LIMITED_CLASSES}_{draw}"] = {"unseen": unseen, "seed": seed}
        return sets

    @property
    def limited(self):
        return [name for name in self.class_sets if name != ALL_CLASSES]

    def class_sets_of(self, dataset):
        """Class sets of one data set; data sets for initializers only have just `ALL_CLASSES`."""
        return self.class_sets if dataset == self.name else {ALL_CLASSES: {"unseen": 0}}

    # Recipes.

    def recipe_of(self, entry, seed, **more):
        """The `Recipe` of a complete entry; ``more``: other values of some fields."""
        protocol = self.config["protocol"]
        values = {
            **{key: entry[key] for key in (*TRAINED_BY, "image_size")},
            **{key: protocol[key] for key in NUMERICS},
            "device": self.config["device"],
            "seed": seed,
        }
        return Recipe(**{**values, **more})

    @property
    def on_images(self):
        """Names of the experiments whose backbone trains, on images."""
        return [name for name, entry in self.experiments.items() if entry["backbone_trains"]]

    @property
    def on_features(self):
        """Names of the experiments whose backbone does not train."""
        return [name for name, entry in self.experiments.items() if not entry["backbone_trains"]]

    def run_recipe(self, name, seed):
        """The `Recipe` of a run. A selection may still replace some of its values: see `known`."""
        entry = self.experiments[name]
        return self.recipe_of(entry, seed, eval_every=entry["eval_every"])

    def feature_recipe(self, entry):
        """The `FeatureRecipe` of a complete entry whose backbone does not train."""
        protocol = self.config["protocol"]
        return FeatureRecipe(
            backbone=entry["backbone"],
            image_size=entry["image_size"],
            precision=protocol["precision"],
            compute_threads=protocol["compute_threads"],
            device=self.config["device"],
        )

    def start_row(self, name):
        """The untrained row with the backbone and initializer of an experiment, or None."""
        entry = self.experiments[name]
        for row in self.untrained:
            if all(entry[key] == self.experiments[row][key] for key in ("backbone", "initializer")):
                return row
        return None

    def fitted(self, name):
        """Whether the models of a row were fitted to images of the study: not if neither the row nor an
        initializer that it starts from is trained on them. Then all of its models are one."""
        entry = self.experiments[name]
        # The random weights of a head may follow the number of classes.
        untouched = not entry["epochs"] and entry["head"]["kind"] == "none"
        return self._starts_from_own(entry) or not untouched

    def _starts_from_own(self, entry):
        """Whether an initializer that a complete entry starts from is trained on the study's images."""
        start, backbone = entry["initializer"], entry["backbone"]
        while self.initializers[start]["kind"] == "trained":
            if self.initializers[start]["dataset"] in ("study", self.name):
                return True
            start = self.initializer_entry(start, backbone)["initializer"]
        return False

    def trained_of(self, name):
        """What of the models of a row was trained on the study's images: "nothing", "head" or "backbone"."""
        entry = self.experiments[name]
        if self._starts_from_own(entry):
            return "backbone"
        if name in self.untrained or not entry["epochs"]:
            return "nothing"
        return "backbone" if entry["backbone_trains"] else "head"

    @property
    def models(self):
        """{experiment: {key: value}} of `MODEL_KEYS`, and ``trains``: whether the experiment trains anything."""
        return {
            name: {key: entry[key] for key in MODEL_KEYS} | {"trains": bool(entry["epochs"])}
            for name, entry in self.experiments.items()
        }

    @property
    def model_pieces(self):
        """(piece, kind) of all that `models` are built of, sorted."""
        found = {registry.backbone_piece(model["backbone"]) for model in self.models.values()}
        for model in self.models.values():
            found |= {(piece, model[piece]["kind"]) for piece in ("head", "trained_parts")}
        return sorted(found)

    @property
    def unfitted(self):
        """Names of the experiments whose stored features are not fitted to images of the study."""
        return [name for name in self.on_features if not self.fitted(name)]

    def candidate_recipe(self, name, candidate):
        """The `Recipe` of one candidate of a selection."""
        epochs = self.config["protocol"]["selection"]["epochs"]
        more = {} if epochs is None else {"epochs": epochs}
        return self.recipe_of(
            self.candidates[name][candidate]["recipe"], self.selection_seed, **more
        )

    def initializer_recipe(self, name, backbone, seed):
        """The `Recipe` of a trained initializer for one backbone."""
        return self.recipe_of(self.initializer_entry(name, backbone), seed)

    def initializer_entry(self, name, backbone):
        """The complete entry of a trained initializer for one backbone."""
        entry = self.initializers[name]
        return entry["backbones"].get(backbone, {**entry["recipe"], "backbone": backbone})

    def starts(self):
        """{(initializer, backbone): experiments} of all weights that runs start from, and those that
        these start from."""
        found = {}
        for experiment, entry in self.experiments.items():
            start, backbone = entry["initializer"], entry["backbone"]
            while True:
                found.setdefault((start, backbone), []).append(experiment)
                if self.initializers[start]["kind"] != "trained":
                    break
                start = self.initializer_entry(start, backbone)["initializer"]
        return found

    # Backbones.

    @property
    def backbones(self):
        """Names of all backbones that rows use, in order."""
        return list(dict.fromkeys(entry["backbone"] for entry in self.experiments.values()))

    def used_backbones(self):
        """All (backbone, image size) that rows and trained initializers use, in order."""
        entries = list(self.experiments.values())
        for name, backbone in self.starts():
            if self.initializers[name]["kind"] == "trained":
                entries.append(self.initializer_entry(name, backbone))
        return list(dict.fromkeys((entry["backbone"], entry["image_size"]) for entry in entries))

    def facts_of(self, entry):
        """Facts of a complete entry's backbone, for images of the entry's size."""
        return self.facts[entry["backbone"], entry["image_size"]]

    # Selections.

    def selected(self, name):
        """Keys of a recipe that hold selected values, such as ``optimizer``; none for most."""
        keys = self.inherited[name]["selection"] if name in self.candidates else {}
        return sorted({key.partition(".")[0] for key in keys})

    def known(self, name, recipe):
        """An experiment's recipe as a dictionary, without the keys that hold selected values."""
        selected = self.selected(name)
        return {key: value for key, value in recipe.as_dict().items() if key not in selected}

    @property
    def selection_seed(self):
        seed = self.config["protocol"]["selection"]["seed"]
        return self.seeds[0] if seed is None else seed

    def choices(self, name):
        """Candidates of an experiment in order, each with its values and what a recipe gets of it."""
        return [
            {
                "candidate": candidate,
                "values": tried["values"],
                "recipe": {key: tried["recipe"][key] for key in self.selected(name)},
            }
            for candidate, tried in self.candidates[name].items()
        ]

    # Packs.

    def resizes(self, entry):
        """(training pack, test pack) of a complete entry, such as ("shorter246", "shorter224")."""
        side, margin = entry["image_size"], self.config["protocol"]["resize_margin"]
        sizes = {"exact": side, "margin": round(side * margin)}
        interpolation = self.facts_of(entry)["interpolation"]
        names = []
        for variable in ("TRAIN_RESIZE", "TEST_RESIZE"):
            kind = entry["augmentation"]["kind"]
            mode, size = source_code.constant("augmentation", kind, variable)
            names.append(Resize(mode, sizes[size], interpolation).name)
        return tuple(names)

    def packs_of(self, dataset):
        """Names of all packs that are made of a data set, sorted."""
        packed = list(self.experiments.values()) if dataset == self.name else []
        for name, backbone in self.starts():
            entry = self.initializers[name]
            trained_on = self.name if entry["dataset"] == "study" else entry["dataset"]
            if entry["kind"] == "trained" and trained_on == dataset:
                packed.append(self.initializer_entry(name, backbone))
        return sorted({resize for entry in packed for resize in self.read_packs(entry)})

    def read_packs(self, entry):
        """`resizes` without the training pack, for a complete entry whose images are only embedded."""
        return self.resizes(entry)[0 if entry["backbone_trains"] else 1 :]
