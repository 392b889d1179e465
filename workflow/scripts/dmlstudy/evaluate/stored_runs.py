"""Reads and gathers the tables of the finished runs of a study."""

from pathlib import Path

import pandas as pd

from dmlstudy.core.files import read_json
from dmlstudy.evaluate.study_metrics import Answers


class StoredRuns:
    """Finished runs under ``root``/experiment/seedN/class set.

    ``experiments``: names of experiments; ``class_sets``: {name: boolean mask of seen classes}, the
    full set first. Attributes: ``full``, the name of the full set, and ``limited``, the other
    names.
    """

    def __init__(self, root, experiments, seeds, class_sets):
        self.root, self.experiments, self.seeds = Path(root), list(experiments), list(seeds)
        self.class_sets = class_sets
        self.full, *self.limited = class_sets

    @classmethod
    def read(cls, root, experiments, seeds, class_set_files):
        """Read the class sets from ``class_set_files``; the full set comes first."""
        tables = [pd.read_csv(path) for path in class_set_files]
        sets = {table["class_set"].iat[0]: table["seen"].to_numpy(dtype=bool) for table in tables}
        return cls(root, experiments, seeds, sets)

    def folder(self, experiment, seed, class_set):
        """The folder of one run."""
        return self.root / experiment / f"seed{seed}" / class_set

    def gathered(self, file, class_sets):
        """The table ``file`` (CSV, or JSON with scalars) of all runs of ``class_sets``.

        The first columns are experiment, seed and class_set.
        """
        tables = []
        for experiment in self.experiments:
            for seed in self.seeds:
                for class_set in class_sets:
                    path = self.folder(experiment, seed, class_set) / file
                    scalars = path.suffix == ".json"
                    table = pd.DataFrame([read_json(path)]) if scalars else pd.read_csv(path)
                    keys = {"experiment": experiment, "seed": seed, "class_set": class_set}
                    tables.append(pd.concat([pd.DataFrame(keys, index=table.index), table], axis=1))
        return pd.concat(tables, ignore_index=True)

    def answers(self, experiment):
        """The `Answers` of all models of an experiment."""

        def queries(class_set):
            return [
                pd.read_csv(self.folder(experiment, seed, class_set) / "queries.csv")
                for seed in self.seeds
            ]

        seen = {class_set: self.class_sets[class_set] for class_set in self.limited}
        limited = {class_set: queries(class_set) for class_set in self.limited}
        return Answers(queries(self.full), limited, seen)

    def metrics(self, experiment):
        """The summary.csv of an experiment, indexed by metric."""
        return pd.read_csv(self.root / experiment / "summary.csv").set_index("metric")

    def of_experiments(self, file):
        """The table ``file`` of all experiments, one below the other."""
        tables = [pd.read_csv(self.root / name / file) for name in self.experiments]
        return pd.concat(tables, ignore_index=True)

    def facts(self):
        """Numbers of classes, gallery images, queries and unseen classes; all runs share them."""
        first = self.folder(self.experiments[0], self.seeds[0], self.full) / "summary.json"
        summary = read_json(first)
        facts = {key: summary[key] for key in ("classes", "queries", "gallery")}
        return {**facts, "unseen_classes": int((~self.class_sets[self.limited[0]]).sum())}

    def mean_curve(self, experiment):
        """{epoch:

        test accuracy of the all-classes models, mean over seeds}, for epochs that have one.
        """
        curves = [
            pd.read_csv(self.folder(experiment, seed, self.full) / "curves.csv")
            for seed in self.seeds
        ]
        curve = pd.concat(curves).groupby("epoch")["test_accuracy"].mean().dropna()
        return {int(epoch): float(value) for epoch, value in curve.items()}
