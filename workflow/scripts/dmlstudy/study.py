"""The study as plain values: what is trained, on what, starting from what. All of it is checked here.

The workflow asks this module what to plan; it knows nothing of Snakemake.
"""

from dataclasses import dataclass, field

from dmlstudy import recipes, registry, source_code
from dmlstudy.canonical import canonical
from dmlstudy.files import StudyError, read_json
from dmlstudy.recipes import RecipeError
from dmlstudy.sources import addresses, local_path, mistake

ALL_CLASSES = "all_classes"
LIMITED_CLASSES = "limited_classes"

# Keys of a recipe that a training needs; the rest of an entry describes it.
TRAINED_BY = (
    "backbone",
    "frozen_batchnorm",
    *recipes.PIECES,
    "loss_lr",
    "epochs",
    "batch_size",
    "samples_per_class",
)


@dataclass
class Study:
    """A checked study. ``experiments`` holds the untrained rows too, last."""

    config: dict
    entries: dict
    experiments: dict
    initializers: dict
    datasets: dict
    untrained: list = field(default_factory=list)

    @property
    def name(self):
        """Name of the data set that the study is about."""
        return self.config["dataset"]["name"]

    @property
    def synthetic(self):
        return bool(self.config["dataset"]["drawn"])

    @property
    def seeds(self):
        return self.config["protocol"]["seeds"]

    @property
    def class_sets(self):
        """{class set: number of last classes left out}."""
        return {ALL_CLASSES: 0, LIMITED_CLASSES: self.config["protocol"]["unseen_classes"]}

    @property
    def limited(self):
        return [name for name in self.class_sets if name != ALL_CLASSES]

    def class_sets_of(self, dataset):
        """Class sets of one data set; those that only lend weights have just the one."""
        return self.class_sets if dataset == self.name else {ALL_CLASSES: 0}

    def numerics(self):
        """What every training depends on, beside its recipe."""
        protocol = self.config["protocol"]
        return {
            "image_size": protocol["image_size"],
            "precision": protocol["precision"],
            "compute_threads": protocol["compute_threads"],
            "device": self.config["device"],
        }

    def training_spec(self, name, seed):
        """Exactly what the training of an experiment needs to know."""
        recipe = self.experiments[name]
        return {
            **{key: recipe[key] for key in TRAINED_BY},
            **self.numerics(),
            "eval_every": self.config["protocol"]["eval_every"],
            "seed": seed,
        }

    def pretraining_spec(self, name, arch, seed):
        """The same for an initializer and one backbone."""
        recipe = self.pretraining_recipe(name, arch)
        return {**{key: recipe[key] for key in TRAINED_BY}, **self.numerics(), "seed": seed}

    def pretraining_recipe(self, name, arch):
        """Recipe of a trained initializer for one backbone."""
        entry = self.initializers[name]
        return entry["backbones"].get(arch, {**entry["recipe"], "backbone": arch})

    def resizes(self, recipe):
        """(training pack, test pack) of a recipe, such as ("shorter246", "shorter224")."""
        protocol = self.config["protocol"]
        sizes = {
            "exact": protocol["image_size"],
            "margin": round(protocol["image_size"] * protocol["resize_margin"]),
        }
        names = []
        for variable in ("TRAIN_RESIZE", "TEST_RESIZE"):
            mode, size = source_code.constant(
                "augmentation", recipe["augmentation"]["kind"], variable
            )
            names.append(f"{mode}{sizes[size]}")
        return tuple(names)

    def packs_of(self, dataset):
        """Names of all packs that are made of a data set, sorted."""
        packed = list(self.experiments.values()) if dataset == self.name else []
        for entry in self.initializers.values():
            lent = self.name if entry["dataset"] == "study" else entry["dataset"]
            if entry["kind"] == "trained" and lent == dataset:
                packed += [entry["recipe"], *entry["backbones"].values()]
        return sorted({resize for recipe in packed for resize in self.resizes(recipe)})

    def notes(self):
        """Sentences that every page must carry."""
        notes = []
        if self.synthetic:
            notes.append("All images are synthetic: drawn birds, not photographs.")
        scale = self.config["learning_rate_scale"]
        factors = [f"{name} × {factor:g}" for name, factor in scale.items() if factor != 1]
        if factors:
            notes.append(f"Learning rates are the recipes' times a factor: {', '.join(factors)}.")
        return notes

    def origin(self, dataset):
        """What identifies a data set's content, wherever it is fetched from: text, or None if drawn.

        The checksum of its archive where the configuration gives one (a mirror or a local copy holds
        the same), else the first address or the path.
        """
        dataset = self.datasets[dataset]
        folder = local_source(dataset)
        for name in ("md5", "sha256"):
            if dataset[name] and not (folder and folder.is_dir()) and dataset["source"]:
                return f"{name}:{dataset[name]}"
        return [*addresses(dataset["source"]), dataset["source"]][0]

    def check_local_files(self):
        """Raise RecipeError for a local file or folder that the configuration names and nobody finds."""
        for name, dataset in self.datasets.items():
            keys = ("dataset",) if name == self.name else ("other_datasets", name)
            path = local_source(dataset)
            if path is not None and not path.exists():
                raise RecipeError(f"{path}: no such file or folder", *keys, "source")
        for name, entry in self.initializers.items():
            for arch, source in entry["weights"].items():
                path = local_path(source)
                if path is not None and not path.is_file():
                    raise RecipeError(
                        f"{path}: no such file", "initializers", name, "weights", arch
                    )

    def identity(self):
        """What a results folder belongs to: one data set and one split of it."""
        dataset, protocol = self.config["dataset"], self.config["protocol"]
        split = ("split", "test_share", "validation_share", "split_seed")
        return canonical(
            {
                "dataset": self.name,
                "source": self.origin(self.name),
                **{key: dataset[key] for key in ("format", "csv", "drawn")},
                **{key: protocol[key] for key in split},
            }
        )

    def refuse_foreign_results(self, claim):
        """Raise StudyError if the file ``claim`` says that a results folder belongs to another study.

        Figures of two data sets or splits must not meet in one table.
        """
        found = read_json(claim) if claim.exists() else {}
        for key, value in self.identity().items():
            if found and found.get(key) != value:
                raise StudyError(
                    f"{claim}: these results were made with {key}: {found.get(key)}, the "
                    f"configuration says {value}. A results folder belongs to one data set and "
                    "split: set another results_dir, or remove the folder."
                )

    def label(self, initializer):
        return self.initializers[initializer]["label"]

    def details(self, name):
        """What an experiment is, generated from its entry."""
        if name in self.untrained:
            recipe = self.experiments[name]
            return f"untrained: {recipe['backbone']}, {self.label(recipe['initializer'])}"
        entry = self.entries[name]
        changes = recipes.differences(
            {
                key: self.label(self.experiments[name]["initializer"])
                if key == "initializer"
                else value
                for key, value in entry.items()
            }
        )
        return f"like {entry['like']}: {changes}" if "like" in entry else changes

    def parent(self, name):
        """The experiment that one is like, or None."""
        return self.entries.get(name, {}).get("like")

    def description(self, name):
        """What is written down beside an experiment's results."""
        recipe = self.experiments[name]
        return {
            "experiment": name,
            "details": self.details(name),
            "like": self.parent(name),
            "recipe": {
                "initializer": recipe["initializer"],
                **{key: recipe[key] for key in TRAINED_BY},
                **self.numerics(),
            },
        }

    def rows(self):
        """Names and words of all rows of the study's table, in order."""
        return [
            {"experiment": name, "details": self.details(name), "like": self.parent(name)}
            for name in self.experiments
        ]


def _check_initializers(config, resolved):
    for name, entry in resolved.items():
        if entry["kind"] != "trained":
            continue
        start = entry["recipe"]["initializer"]
        seen = [name]
        while resolved.get(start, {}).get("kind") == "trained":
            if start in seen:
                raise RecipeError(
                    "starts from itself, in a circle", "initializers", name, "initializer"
                )
            seen.append(start)
            start = resolved[start]["recipe"]["initializer"]
        if start not in resolved:
            raise RecipeError(
                f"unknown initializer {start!r}; known: {', '.join(resolved)}",
                "initializers",
                name,
                "recipe",
                "initializer",
            )
        if entry["dataset"] not in ("study", *config["other_datasets"]):
            known = ", ".join(("study", *config["other_datasets"]))
            raise RecipeError(
                f"unknown data set {entry['dataset']!r}; known: {known}",
                "initializers",
                name,
                "dataset",
            )


def _number_of_classes(dataset):
    """How many classes a data set has, where that can be known before any job."""
    if dataset["drawn"]:
        return dataset["drawn"]["classes"]
    return dataset["classes"]


def plan(config):
    """Check a validated configuration as a whole and return the `Study`.

    Raises RecipeError, with the path of keys, for anything that does not fit together.
    """
    protocol = config["protocol"]
    substitute = config["substitute_initializers"]
    defaults = {key: protocol[key] for key in ("epochs", "batch_size", "samples_per_class")}
    defaults |= {
        "frozen_batchnorm": False,
        "loss_lr": None,
        "augmentation": {"kind": "none"},
        "schedule": {"kind": "constant"},
    }
    scale = config["learning_rate_scale"]

    entries = {name: dict(entry) for name, entry in config["experiments"].items()}
    resolved = recipes.resolve(entries, defaults, scale, ("experiments",))
    chosen = config["only"] or list(resolved)
    for name in chosen:
        if name not in resolved:
            known = ", ".join(resolved)
            raise RecipeError(f"{name!r} is no experiment; known: {known}", "only")
    experiments = {name: recipe for name, recipe in resolved.items() if name in chosen}

    datasets = {config["dataset"]["name"]: config["dataset"]}
    for name, dataset in config["other_datasets"].items():
        if name in datasets:
            raise RecipeError(
                f"{name!r} is also the name of the study's data set", "other_datasets", name
            )
        datasets[name] = {**dataset, "name": name}
    for name, dataset in datasets.items():
        keys = ("dataset",) if name == config["dataset"]["name"] else ("other_datasets", name)
        if bool(dataset["source"]) == bool(dataset["drawn"]):
            raise RecipeError("give either source: or drawn:", *keys)
        if dataset["format"] not in registry.names("format"):
            known = ", ".join(registry.names("format"))
            raise RecipeError(
                f"unknown format {dataset['format']!r}; known: {known}", *keys, "format"
            )
        if mistake(dataset["source"]):
            raise RecipeError(mistake(dataset["source"]), *keys, "source")
        if dataset["csv"] and "csv" not in source_code.parameters("format", dataset["format"]):
            raise RecipeError(f"format {dataset['format']} reads no CSV file", *keys, "csv")

    classes = _number_of_classes(config["dataset"])
    if classes is not None and protocol["unseen_classes"] >= classes:
        raise RecipeError(
            f"is {protocol['unseen_classes']}, but the data set has {classes} classes; "
            "at least one must be seen",
            "protocol",
            "unseen_classes",
        )
    if protocol["test_share"] + protocol["validation_share"] >= 1:
        raise RecipeError("leaves nothing to train on", "protocol", "test_share")
    if len(set(protocol["seeds"])) != len(protocol["seeds"]):
        raise RecipeError("holds a seed twice", "protocol", "seeds")

    initializers = {}
    for name, entry in config["initializers"].items():
        entry = dict(entry)
        for arch, source in entry["weights"].items():
            if mistake(source):
                raise RecipeError(mistake(source), "initializers", name, "weights", arch)
        if entry["kind"] == "trained":
            raw = {"backbone": "resnet18", **entry["recipe"]}
            keys = ("initializers", name, "recipe")
            start = substitute.get(raw.get("initializer"), raw.get("initializer"))
            raw = raw if start is None else {**raw, "initializer": start}
            entry["recipe"] = recipes.complete(raw, defaults, scale, keys)
            entry["backbones"] = {
                arch: recipes.complete(
                    recipes.merged(raw, {**changes, "backbone": arch}),
                    defaults,
                    scale,
                    ("initializers", name, "backbones", arch),
                )
                for arch, changes in entry["backbones"].items()
            }
        initializers[name] = entry
    _check_initializers(config, initializers)

    def substituted(recipe, *keys):
        start = substitute.get(recipe["initializer"], recipe["initializer"])
        if start not in initializers:
            known = ", ".join(initializers)
            raise RecipeError(f"unknown initializer {start!r}; known: {known}", *keys)
        return {**recipe, "initializer": start}

    experiments = {
        name: substituted(recipe, "experiments", name, "initializer")
        for name, recipe in experiments.items()
    }
    untrained = []
    for arch in config["untrained"]["backbones"]:
        start = config["untrained"]["initializer"]
        start = substitute.get(start, start)
        name = f"{start}_{arch}"
        if name in experiments:
            raise RecipeError(f"{name!r} is also an untrained row", "experiments", name)
        raw = {
            "backbone": arch,
            "initializer": start,
            "head": {"kind": "none"},
            "loss": {"kind": "crossentropy"},
            "optimizer": {"kind": "sgd"},
            "augmentation": config["untrained"]["augmentation"],
            "epochs": 0,
        }
        recipe = recipes.complete(raw, defaults, {}, ("untrained",))
        experiments[name] = substituted(recipe, "untrained", "initializer")
        untrained.append(name)
    if config["baseline"] not in resolved:
        raise RecipeError(f"{config['baseline']!r} is no experiment", "baseline")
    return Study(config, entries, experiments, initializers, datasets, untrained)


def local_source(dataset):
    """The local file or folder that a data set comes from, or None for addresses and drawn ones."""
    return local_path(dataset["source"])
