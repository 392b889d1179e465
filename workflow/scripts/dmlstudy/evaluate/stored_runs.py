"""What the runs of a study left in their folders, gathered."""

from pathlib import Path

import pandas as pd

from dmlstudy.core.files import read_json
from dmlstudy.evaluate.figures import Answers


class StoredRuns:
    """Finished runs under ``root``/experiment/seedN/class set.

    ``experiments``: their names; ``class_sets``: {name: which classes are seen, booleans}, the full
    set first. Attributes ``full`` (its name) and ``limited`` (the others').
    """

    def __init__(self, root, experiments, seeds, class_sets):
        self.root, self.experiments, self.seeds = Path(root), list(experiments), list(seeds)
        self.class_sets = class_sets
        self.full, *self.limited = class_sets

    @classmethod
    def read(cls, root, experiments, seeds, class_set_files):
        """With the class sets of the files ``class_set_files``, the full one first."""
        tables = [pd.read_csv(path) for path in class_set_files]
        sets = {table["class_set"].iat[0]: table["seen"].to_numpy(dtype=bool) for table in tables}
        return cls(root, experiments, seeds, sets)

    def folder(self, experiment, seed, class_set):
        return self.root / experiment / f"seed{seed}" / class_set

    def gathered(self, file, class_sets):
        """A kind of table (CSV), or of scalars (JSON), of all runs of ``class_sets`` as one table.

        It begins with what each row is about: experiment, seed, class_set.
        """
        parts = []
        for experiment in self.experiments:
            for seed in self.seeds:
                for class_set in class_sets:
                    path = self.folder(experiment, seed, class_set) / file
                    scalars = path.suffix == ".json"
                    part = pd.DataFrame([read_json(path)]) if scalars else pd.read_csv(path)
                    keys = {"experiment": experiment, "seed": seed, "class_set": class_set}
                    parts.append(pd.concat([pd.DataFrame(keys, index=part.index), part], axis=1))
        return pd.concat(parts, ignore_index=True)

    def answers(self, experiment):
        """The `Answers` of an experiment's models."""

        def queries(class_set):
            return [
                pd.read_csv(self.folder(experiment, seed, class_set) / "queries.csv")
                for seed in self.seeds
            ]

        seen = {class_set: self.class_sets[class_set] for class_set in self.limited}
        limited = {class_set: queries(class_set) for class_set in self.limited}
        return Answers(queries(self.full), limited, seen)

    def figures(self, experiment):
        """An experiment's figures.csv, indexed by figure."""
        return pd.read_csv(self.root / experiment / "figures.csv").set_index("figure")

    def facts(self):
        """How many classes, gallery images and queries every run was evaluated on, and unseen classes."""
        first = self.folder(self.experiments[0], self.seeds[0], self.full) / "summary.json"
        summary = read_json(first)
        facts = {key: summary[key] for key in ("classes", "queries", "gallery")}
        return {**facts, "unseen_classes": int((~self.class_sets[self.limited[0]]).sum())}

    def mean_curve(self, experiment):
        """{epoch: test accuracy of the all-classes models, mean over seeds} where a curve has points."""
        curves = [
            pd.read_csv(self.folder(experiment, seed, self.full) / "curves.csv")
            for seed in self.seeds
        ]
        curve = pd.concat(curves).groupby("epoch")["test_accuracy"].mean().dropna()
        return {int(epoch): float(value) for epoch, value in curve.items()}
