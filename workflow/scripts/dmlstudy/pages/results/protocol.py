"""How a study differs from the published one, by its complete recipes."""

from dataclasses import dataclass
from pathlib import Path

from dmlstudy.plan import configuration, recipes
from dmlstudy.plan.recipe import Recipe
from dmlstudy.plan.sources import read_yaml
from dmlstudy.plan.study import TRAINED_BY

# Keys of a recipe that are compared. Devices and precision are told with the costs.
COMPARED = ("initializer", *TRAINED_BY, "image_size")
# Keys of the protocol that a study's tables and its study.json state.
PROTOCOL = ("unseen_classes", "seeds", "unseen_draws", "split", "test_share", "split_seed")


@dataclass(frozen=True)
class Published:
    """The published study. ``config``: the whole configuration; ``recipes``: {experiment: complete}."""

    config: dict
    recipes: dict

    @classmethod
    def read(cls, folder):
        """Read config.yaml and experiments.yaml in ``folder``."""
        # The two files have no key in common.
        config = {}
        for name in ("config.yaml", "experiments.yaml"):
            config |= read_yaml(Path(folder) / name)
        configuration.validate(config, [])
        protocol = config["protocol"]
        numbers = {key: protocol[key] for key in recipes.FROM_PROTOCOL}
        complete = recipes.resolve(config["experiments"], numbers)
        return cls(config, complete)

    @property
    def random(self):
        """{initializer: its label} of those that are random weights."""
        entries = self.config["initializers"].items()
        return {name: entry["label"] for name, entry in entries if entry["kind"] == "scratch"}

    def same_data(self, identity, classes):
        """Whether a results folder's study.json speaks of the published data set, whole."""
        dataset = self.config["dataset"]
        return identity["dataset"] == dataset["name"] and classes == dataset["classes"]

    def changes(self, names, recipe, weights):
        """(nearest published experiment, [[key, published, here]]) of an experiment's complete recipe.

        ``names``: the experiment, the one that it is like, the one that that is like, and so on. The
        first that was published under such a name is the nearest one, if it has the same loss. Else
        it is the one with the same loss, if there is one, that differs in the fewest keys; a tie goes
        to the first. ``weights``: in words, what the recipe's initializer is here.
        """
        # A stored recipe leaves out what has its default.
        stated = {**Recipe.defaults(), **recipe}
        here = {key: stated[key] for key in COMPARED}

        def differing(other):
            theirs = {key: self.recipes[other][key] for key in COMPARED}
            return recipes.differing(theirs, here)

        # The loss decides what an experiment is about.
        def distance(other):
            other_loss = self.recipes[other]["loss"]["kind"] != recipe["loss"]["kind"]
            place = names.index(other) if other in names else len(names)
            return other_loss, place, len(differing(other))

        like = min(self.recipes, key=distance)
        label = self.config["initializers"][self.recipes[like]["initializer"]]["label"]
        rows = differing(like)
        # A piece of another kind need not have the parameters of the published one.
        others = {key.removesuffix(".kind") for key, _, _ in rows if key.endswith(".kind")}
        return like, [
            [key, label, weights] if key == "initializer" else [key, then, now]
            for key, then, now in rows
            if now is not None or key.partition(".")[0] not in others
        ]

    def protocol_changes(self, dataset, here):
        """[[key, published, here]] of the data set and the protocol.

        ``dataset``: of study.json, see `keeping.about`. ``here``: values by key; those of `PROTOCOL`.
        """
        published = self.config["dataset"]
        rows = []
        if not dataset["published"]:
            rows.append(["dataset", published["name"], dataset["name"]])
            rows.append(["classes", published["classes"], dataset["classes"]])
        origin = f"archive with md5 {published['md5']}"
        if dataset["source"] != origin:
            rows.append(["source", origin, dataset["source"]])
        before = {**self.config["protocol"], "unseen_draws": 1}
        rows += [[key, before[key], here[key]] for key in PROTOCOL if before[key] != here[key]]
        return rows
