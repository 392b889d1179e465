"""The study as plain values: what is trained, on what, starting from what. All of it is checked here.

The workflow asks this module what to plan; it knows nothing of Snakemake.
"""

from dataclasses import dataclass, field

from dmlstudy.core import registry, source_code
from dmlstudy.core.addresses import addresses, local_path, mistake, without_secrets
from dmlstudy.core.canonical import canonical
from dmlstudy.core.files import StudyError, read_json
from dmlstudy.plan import recipes
from dmlstudy.plan.candidates import candidates, check_budgets
from dmlstudy.plan.recipe import Recipe
from dmlstudy.plan.recipes import RecipeError

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
    """A checked study. ``experiments`` holds the untrained rows too, last.

    ``inherited``: {experiment: its entry with all that it inherits}; ``candidates``: {experiment whose
    values are selected: {candidate: {"values", "recipe"}}}. Until it is chosen, a selected value is what
    the entry inherits: `known` leaves it out.
    """

    config: dict
    entries: dict
    experiments: dict
    initializers: dict
    datasets: dict
    untrained: list = field(default_factory=list)
    inherited: dict = field(default_factory=dict)
    candidates: dict = field(default_factory=dict)

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
        """{class set: {"unseen": number of classes left out, "seed": of their draw; none: the last}}."""
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
        """Class sets of one data set; those that only lend weights have just the one."""
        return self.class_sets if dataset == self.name else {ALL_CLASSES: {"unseen": 0}}

    def numerics(self):
        """What every training depends on, beside its entry."""
        protocol = self.config["protocol"]
        numerics = ("image_size", "precision", "cuda_graphs", "compute_threads")
        return {**{key: protocol[key] for key in numerics}, "device": self.config["device"]}

    def _recipe(self, entry, seed, **more):
        """The `Recipe` of a complete entry."""
        values = {key: entry[key] for key in TRAINED_BY}
        return Recipe(**{**values, **self.numerics(), "seed": seed, **more})

    def selected(self, name):
        """Keys of a recipe that hold selected values, such as ``optimizer``; none for most."""
        keys = self.inherited[name]["selection"] if name in self.candidates else {}
        return sorted({key.partition(".")[0] for key in keys})

    def known(self, name, recipe):
        """A recipe of an experiment as a dictionary, without the keys that hold selected values."""
        selected = self.selected(name)
        return {key: value for key, value in recipe.as_dict().items() if key not in selected}

    def run_recipe(self, name, seed):
        """The `Recipe` of a run. A selection may still replace some of its values (`known`)."""
        eval_every = self.config["protocol"]["eval_every"]
        return self._recipe(self.experiments[name], seed, eval_every=eval_every)

    @property
    def selection_seed(self):
        seed = self.config["protocol"]["selection"]["seed"]
        return self.seeds[0] if seed is None else seed

    def candidate_recipe(self, name, candidate):
        """The `Recipe` of one candidate of a selection."""
        entry = self.candidates[name][candidate]["recipe"]
        epochs = self.config["protocol"]["selection"]["epochs"]
        more = {} if epochs is None else {"epochs": epochs}
        return self._recipe(entry, self.selection_seed, **more)

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

    def initializer_recipe(self, name, arch, seed):
        """The `Recipe` of a trained initializer for one backbone."""
        return self._recipe(self.initializer_entry(name, arch), seed)

    def initializer_entry(self, name, arch):
        """The complete entry of a trained initializer for one backbone."""
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
        web = addresses(dataset["source"])
        return without_secrets(web[0]) if web else dataset["source"]

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

    def local_paths(self):
        """The local files and folders that the configuration names."""
        paths = [local_source(dataset) for dataset in self.datasets.values()]
        for entry in self.initializers.values():
            paths += [local_path(source) for source in entry["weights"].values()]
        return [path for path in paths if path is not None]

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
        if name in self.candidates:
            changes += f"; selected: {recipes.worded(self.inherited[name]['selection'])}"
        if self.unsourced(name):
            changes += f"; without a source: {recipes.worded(self.unsourced(name))}"
        return f"like {entry['like']}: {changes}" if "like" in entry else changes

    def block(self, name):
        """The part of the study's table in which an experiment stands."""
        return self.inherited.get(name, {}).get("block", "published")

    def unsourced(self, name):
        """Keys whose values have neither a source nor a selection."""
        return self.inherited.get(name, {}).get("unsourced", [])

    def parent(self, name):
        """The experiment that one is like, or None."""
        return self.entries.get(name, {}).get("like")

    def description(self, name):
        """What is written down beside an experiment's results."""
        labels = {"block": self.block(name), "unsourced": self.unsourced(name)}
        return {
            "experiment": name,
            "details": self.details(name),
            "like": self.parent(name),
            **(labels if labels != {"block": "published", "unsourced": []} else {}),
            "recipe": self._described(name),
        }

    def _described(self, name):
        """A recipe as it is written down: without a seed, since it holds for all seeds."""
        recipe = self.known(name, self._recipe(self.experiments[name], None))
        del recipe["seed"]
        return {"initializer": self.experiments[name]["initializer"], **recipe}

    def tracked(self, name, seed, class_set):
        """What an experiment, seed and draw of unseen classes was, whole, for the tracker.

        Whatever changes a result on purpose is in it: two runs differ in it or are the same run.
        """
        recipe = self.experiments[name]
        return canonical(
            {
                "results": self.results(),
                "experiment": name,
                "seed": seed,
                "class_set": {"name": class_set, **self.class_sets[class_set]},
                "recipe": self.known(name, self.run_recipe(name, seed)),
                "resizes": self.resizes(recipe),
                "start": self._start(recipe["initializer"], recipe["backbone"], seed),
            }
        )

    def results(self):
        """What a results folder is, in words of the configuration."""
        return {"results_dir": self.config["results_dir"], **self.identity()}

    def _start(self, initializer, arch, seed):
        """Where weights come from, and where those come from."""
        entry = self.initializers[initializer]
        if entry["kind"] != "trained":
            return {"initializer": initializer, "kind": entry["kind"]}
        recipe = self.initializer_entry(initializer, arch)
        seed = seed if entry["seed"] is None else entry["seed"]
        return {
            "initializer": initializer,
            "kind": entry["kind"],
            "dataset": entry["dataset"],
            "recipe": self.initializer_recipe(initializer, arch, seed).as_dict(),
            "start": self._start(recipe["initializer"], arch, seed),
        }

    def rows(self):
        """Names and words of all rows of the study's table, in order, block by block."""
        return [
            {
                "experiment": name,
                "block": self.block(name),
                "details": self.details(name),
                "like": self.parent(name),
                "untrained": name in self.untrained,
            }
            for name in sorted(self.experiments, key=lambda name: self.block(name) != "published")
        ]

    def reproduction(self, published):
        """What can be compared with the published study: {"obstacle", "matches"}, plain values.

        ``published``: content of published_recipes.yaml. An obstacle is why nothing can be compared.
        ``matches``: {published experiment: {"experiment": ours with the recipe that was run, or
        None, "why": what differs, "epochs": how many were meant to be run}}.
        """
        recipes_run = recipes.resolve(published["experiments"], _defaults(published["defaults"]))
        ours = {
            name: _comparable(recipe)
            for name, recipe in self.experiments.items()
            # Whose values are selected is not known yet, and nothing that was published.
            if name not in self.candidates
        }
        matches = {}
        for name, recipe in recipes_run.items():
            wanted = _comparable(recipe)
            # Its own name first: two experiments may have one recipe.
            order = sorted(ours, key=lambda other, name=name: other != name)
            found = next((other for other in order if ours[other] == wanted), None)
            why = ""
            if found is None and name in self.candidates:
                why = "its values were selected here"
            elif found is None and name not in ours:
                why = "the experiment was not run here"
            elif found is None:
                differing = recipes.differing(wanted, ours[name])
                why = "another recipe was run: " + ", ".join(
                    f"{key} {then} (here {now})" for key, then, now in differing
                )
            matches[name] = {"experiment": found, "why": why, "epochs": recipe["epochs"]}
        return {"obstacle": self._obstacle(published), "matches": matches}

    def _obstacle(self, published):
        protocol = self.config["protocol"]
        # A folder of one's own inherits the checksum of the published archive, which it is not.
        if self.synthetic or self.origin(self.name) != f"md5:{published['dataset']['md5']}":
            return f"the data set is {self.name}, not the published archive"
        for key, value in published["protocol"].items():
            if protocol[key] != value:
                return f"protocol.{key} is {protocol[key]}, it was {value}"
        return ""


def _defaults(numbers):
    """Values of a recipe's keys where no entry gives them."""
    return {
        **numbers,
        "frozen_batchnorm": False,
        "loss_lr": None,
        "augmentation": {"kind": "none"},
        "schedule": {"kind": "constant"},
    }


def _comparable(recipe):
    return canonical({key: recipe[key] for key in ("initializer", *TRAINED_BY)})


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


def _check_batches(tried, classes, keys):
    """Raise RecipeError if a batch of some recipe needs more classes than a model is trained on.

    ``classes``: how many there are at most. What is known before any job must not stop one.
    """
    for name, recipe in tried.items():
        samples, batch = recipe["samples_per_class"], recipe["batch_size"]
        if samples and samples * classes < batch:
            raise RecipeError(
                f"{name} asks for {samples} samples per class, of which {classes} classes do not fill "
                f"a batch of {batch}; lower batch_size or raise samples_per_class",
                *keys,
            )


def _check_unsourced(entry, recipe, keys):
    """Raise RecipeError unless each key said to have no source is one of the recipe's own values."""
    known = {*recipe, *(f"{part}.{key}" for part in recipes.PIECES for key in recipe[part])}
    for key in entry.get("unsourced", []):
        if key not in known:
            raise RecipeError(f"names {key!r}, which is no key of the recipe", *keys, "unsourced")
        if key in entry.get("selection", {}):
            raise RecipeError(f"names {key!r}, which is selected", *keys, "unsourced")


def _check_selection_starts(experiments, selected, initializers):
    """Raise RecipeError if weights that a candidate starts from have seen the study's images.

    An initializer that was trained on them knows the classes that a selection holds out.
    """
    for name in selected:
        start = experiments[name]["initializer"]
        while initializers[start]["kind"] == "trained":
            if initializers[start]["dataset"] == "study":
                raise RecipeError(
                    f"cannot be used: initializer {start!r} is trained on the study's own images, "
                    "so that held-out classes are not new to it. Select with one that is not, and "
                    "write the values into an entry that starts from it",
                    "experiments",
                    name,
                    "selection",
                )
            start = initializers[start]["recipe"]["initializer"]


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
    defaults = _defaults(
        {key: protocol[key] for key in ("epochs", "batch_size", "samples_per_class")}
    )
    scale = config["learning_rate_scale"]

    entries = {name: dict(entry) for name, entry in config["experiments"].items()}
    resolved = recipes.resolve(entries, defaults, scale, ("experiments",))
    chosen = config["only"] or list(resolved)
    for name in chosen:
        if name not in resolved:
            known = ", ".join(resolved)
            raise RecipeError(f"{name!r} is no experiment; known: {known}", "only")
    experiments = {name: recipe for name, recipe in resolved.items() if name in chosen}
    inherited = {name: recipes.inherited(name, entries) for name in experiments}
    planned = {}
    for name, entry in inherited.items():
        keys = ("experiments", name)
        _check_unsourced(entry, experiments[name], keys)
        if entry.get("selection"):
            planned[name] = candidates(entry, defaults, scale, keys)
            if not (protocol["selection"]["epochs"] or experiments[name]["epochs"]):
                raise RecipeError("needs epochs to train for", *keys, "selection")
    check_budgets(planned, ("experiments",), protocol["selection"]["epochs"])

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
    if classes is not None:
        seen = classes - protocol["unseen_classes"]
        for name, recipe in experiments.items():
            _check_batches({"its recipe": recipe}, seen, ("experiments", name))
        trained = seen - max(1, round(protocol["selection"]["held_out_share"] * seen))
        for name, tried in planned.items():
            tried = {candidate: one["recipe"] for candidate, one in tried.items()}
            _check_batches(tried, trained, ("experiments", name, "selection"))
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
        for recipe in (entry.get("recipe", {}), *entry["backbones"].values()):
            for key in ("block", "selection", "unsourced"):
                if key in recipe:
                    raise RecipeError(
                        f"has {key}:, which only experiments have", "initializers", name, "recipe"
                    )
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
    _check_selection_starts(experiments, planned, initializers)
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
    return Study(
        config, entries, experiments, initializers, datasets, untrained, inherited, planned
    )


def local_source(dataset):
    """The local file or folder that a data set comes from, or None for addresses and drawn ones."""
    return local_path(dataset["source"])
