"""Evaluates the models of an experiment: from embeddings to tables. Does not import torch."""

import numpy as np
import pandas as pd

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate import metrics
from dmlstudy.evaluate.enrolment import Enrolment
from dmlstudy.evaluate.leave_one_out import leave_one_out, recall
from dmlstudy.evaluate.metrics import precision_at_1, precision_at_1_by_class
from dmlstudy.evaluate.rejection import reject_by
from dmlstudy.evaluate.retrieval import (
    answers_and_neighbours,
    neighbours_of,
    normalised_mutual_information,
)
from dmlstudy.evaluate.spread import spread
from dmlstudy.evaluate.study_metrics import Answers, hits, metrics_table


def class_metrics(queries, gallery_class_ids, class_names):
    """A row per class: class_name, test_samples, train_samples, precision_at_1.

    precision_at_1 is empty for a class without queries.
    """
    count = len(class_names)
    return pd.DataFrame(
        {
            "class_name": class_names,
            "test_samples": np.bincount(queries["class_id"], minlength=count),
            "train_samples": np.bincount(gallery_class_ids, minlength=count),
            "precision_at_1": precision_at_1_by_class(
                queries["correct"], queries["class_id"], count
            ),
        }
    )


def confusions(queries, class_names):
    """Which classes are confused with which: a row per pair, the most costly pair first.

    Columns: class_id, class_name, nearest_class_id, nearest_class_name, wrong (queries of the first
    class that were answered with the second), queries (of the first class) and cost: ``wrong`` as a
    share of all queries, so what the pair takes from precision@1 (micro). Ties are ordered by class
    ids.
    """
    wrong = queries[queries["correct"] == 0]
    keys = ["class_id", "nearest_class_id"]
    table = wrong.groupby(keys).size().rename("wrong").reset_index()
    table = table.sort_values(["wrong", *keys], ascending=[False, True, True], ignore_index=True)
    names = np.array(class_names, dtype=object)
    table.insert(1, "class_name", names[table["class_id"]])
    table.insert(3, "nearest_class_name", names[table["nearest_class_id"]])
    counts = np.bincount(queries["class_id"], minlength=len(names))
    table["queries"] = counts[table["class_id"]]
    table["cost"] = table["wrong"] / len(queries)
    return table


def classification_report(queries, class_names):
    """scikit-learn's report of nearest-neighbour classification: a row per class and average."""
    from sklearn.metrics import classification_report as report

    # A class may have the name of an average ("accuracy"), so the report gets numbers as names.
    names = {str(index): name for index, name in enumerate(class_names)}
    table = report(
        queries["class_id"],
        queries["nearest_class_id"],
        labels=range(len(names)),
        target_names=list(names),
        output_dict=True,
        zero_division=0,
    )
    rows = []
    accuracy = precision_at_1(queries["correct"])
    for key, values in table.items():
        if not isinstance(values, dict):
            values = {key: accuracy for key in ("precision", "recall", "f1-score")}
            values["support"] = len(queries)
        rows.append(
            {
                "class_name": names.get(key, key),
                "row": "class" if key in names else "average",
                "precision": values["precision"],
                "recall": values["recall"],
                "f1_score": values["f1-score"],
                "support": int(values["support"]),
            }
        )
    return pd.DataFrame(rows)


def summarise(queries, gallery_size, seen, last_test_accuracy, *, recall_at=(1,), nmi=None):
    """Scalars of a run, as a dictionary. Values that do not exist are None.

    ``queries``: a table of `answer_queries`; ``seen``: boolean mask over classes. Shares are shares
    of queries (micro) unless the name says macro. ``test_accuracy_known_classes`` is the last point
    of the training curve, where queries and gallery hold only classes that the model was trained
    on. For all other metrics the whole gallery is searched. Without unseen classes there is no
    harmonic mean.
    """
    correct = queries["correct"].to_numpy(dtype=float)
    known = seen[queries["class_id"]]
    by_class = precision_at_1_by_class(correct, queries["class_id"], len(seen))
    result = {
        "queries": len(queries),
        "gallery": int(gallery_size),
        "classes": len(seen),
        "seen_classes": int(seen.sum()),
        "precision_at_1": precision_at_1(correct),
        "macro_precision_at_1": float(np.nanmean(by_class)),
        "precision_at_1_seen_classes": precision_at_1(correct[known]),
        "precision_at_1_unseen_classes": precision_at_1(correct[~known]),
        "harmonic_mean": float("nan"),
        "test_accuracy_known_classes": last_test_accuracy,
        "r_precision": float(queries["r_precision"].mean()),
        "map_at_r": float(queries["average_precision_at_r"].mean()),
        "nmi": nmi,
    }
    if known.any() and not known.all():
        result["harmonic_mean"] = float(
            metrics.harmonic_mean(
                result["precision_at_1_seen_classes"], result["precision_at_1_unseen_classes"]
            )
        )
    ranks = queries["first_correct_rank"]
    for k in recall_at:
        result[f"recall_at_{k}"] = float(((ranks >= 1) & (ranks <= k)).mean())
    for column in queries.columns:
        if column.startswith("vote_"):
            n = column.removeprefix("vote_").removesuffix("_class_id")
            right = (queries[column] == queries["class_id"]).to_numpy()
            result[f"majority_vote_{n}"] = precision_at_1(right)
    if "softmax_class_id" in queries:
        right = (queries["softmax_class_id"] == queries["class_id"]).to_numpy()
        result["softmax_accuracy_known_classes"] = precision_at_1(right[known])
    return {key: None if value != value else value for key, value in result.items()}


def compare_class_sets(all_metrics, limited_metrics, seen):
    """Per-class tables of two models and their mean drops, for unseen, seen and all classes.

    ``all_metrics``, ``limited_metrics``: tables of `class_metrics`; ``seen``: boolean mask over
    classes. Returns ({"unseen": table, …}, scalars). A drop is precision@1 of the all-classes model
    minus that of the limited model, averaged over the classes that have queries (macro).
    """
    table = pd.DataFrame(
        {
            "class_name": all_metrics["class_name"],
            "all_classes_precision_at_1": all_metrics["precision_at_1"],
            "limited_classes_precision_at_1": limited_metrics["precision_at_1"],
        }
    )
    tables = {"unseen": table[~seen], "seen": table[seen], "all": table}
    scalars = {}
    for name, rows in tables.items():
        drops = rows["all_classes_precision_at_1"] - rows["limited_classes_precision_at_1"]
        mean = float(drops.mean())
        scalars[f"precision_drop_{name}_classes"] = None if mean != mean else mean
    return tables, scalars


def evaluate_experiment(
    datasets,
    seeds,
    read_run,
    write,
    *,
    recall_at,
    votes,
    enrolment_images,
    enrolment_draws,
    bootstrap_draws,
    bootstrap_seed,
    threads,
):
    """Make all tables of an experiment: those of each run, and the experiment's summary.csv.

    ``datasets``: a `Dataset` per class set, the one with all classes first. ``read_run(seed,
    class_set)`` returns (embeddings, last test accuracy). ``write(name, value)`` gets a table, or a
    mapping if the name ends with .json. The other arguments are keys of ``evaluation`` in the
    configuration.
    """
    full, *limited = datasets
    class_ids, names = full.class_ids, full.class_names
    bootstrap = {"draws": bootstrap_draws, "seed": bootstrap_seed}
    answers = Answers([], {one.class_set: [] for one in limited}, {})
    answers.seen = {one.class_set: one.seen for one in limited}
    answers.leave_one_out = {one.class_set: [] for one in limited}
    runs = []

    options = {"votes": votes, "threads": threads}
    # Most of the nearest images of seen classes are among so many.
    searched = {"recall_at": recall_at, "kept": 2 * max([1, *votes]), **options}

    def evaluate_run(seed, dataset, embeddings, last, queries):
        """Write the tables of a run; returns (class metrics, summary)."""
        folder = f"seed{seed}/{dataset.class_set}"
        check_curve(folder, queries, dataset.seen, last)
        gallery = embeddings["gallery_image_ids"]
        table = class_metrics(queries, class_ids[gallery], names)
        nmi = normalised_mutual_information(embeddings, class_ids, threads)
        summary = summarise(queries, len(gallery), dataset.seen, last, recall_at=recall_at, nmi=nmi)
        summary |= spread(embeddings["gallery_embeddings"])
        write(f"{folder}/queries.csv", queries)
        write(f"{folder}/confusions.csv", confusions(queries, names))
        write(f"{folder}/metrics.csv", table)
        write(f"{folder}/classification_report.csv", classification_report(queries, names))
        write(f"{folder}/summary.json", summary)
        return table, summary

    for seed in seeds:
        oracle, last = read_run(seed, full.class_set)
        queries, nearest = answers_and_neighbours(oracle, class_ids, **searched)
        full_metrics, summary = evaluate_run(seed, full, oracle, last, queries)
        answers.all.append(queries)
        run = {"all": [summary], "limited": [], "scalars": []}
        for dataset in limited:
            embeddings, last = read_run(seed, dataset.class_set)
            if (embeddings["query_image_ids"] != oracle["query_image_ids"]).any():
                raise StudyError(
                    f"{dataset.class_set}: its queries are not those of {full.class_set}"
                )
            limited_queries, own_nearest = answers_and_neighbours(embeddings, class_ids, **searched)
            enrolments = {
                name: Enrolment(one, class_ids, dataset.seen, nearest=found, **options)
                for name, one, found in (
                    (dataset.class_set, embeddings, own_nearest),
                    (full.class_set, oracle, nearest),
                )
            }
            own = enrolments[dataset.class_set]
            similarities, ids = own.neighbours
            limited_queries["nearest_seen_class_id"] = class_ids[ids[:, 0]]
            limited_queries["similarity_to_seen"] = similarities[:, 0]
            table, summary = evaluate_run(seed, dataset, embeddings, last, limited_queries)
            answers.limited[dataset.class_set].append(limited_queries)
            tables, scalars = compare_class_sets(full_metrics, table, dataset.seen)
            folder = f"seed{seed}/{dataset.class_set}"
            for name, rows in tables.items():
                write(f"{folder}/comparison_{name}_classes.csv", rows)
            unseen = ~dataset.seen[class_ids[embeddings["query_image_ids"]]]
            shown = neighbours_of(embeddings, class_ids, unseen, max([1, *votes]), threads)
            write(f"{folder}/neighbours.csv", shown)
            curves = [
                enrolment.curve(
                    enrolment_images,
                    enrolment_draws,
                    bootstrap_seed,
                    bootstrap_draws=bootstrap_draws,
                ).assign(model=name)
                for name, enrolment in enrolments.items()
            ]
            classes = own.query_classes
            known = dataset.seen[classes]
            scores = [enrolment.neighbours[0][:, 0] for enrolment in enrolments.values()]
            found = reject_by(
                [(one[known], one[~known]) for one in scores],
                known_classes=classes[known],
                unknown_classes=classes[~known],
                **bootstrap,
            )
            rejections, rejection_curves = [], []
            for name, (rejection, points) in zip(enrolments, found, strict=True):
                rejections.append({"model": name, **rejection})
                rejection_curves.append(points.assign(model=name))
            write(f"{folder}/enrolment.csv", _first("model", pd.concat(curves)))
            write(f"{folder}/rejection.csv", pd.DataFrame(rejections))
            write(f"{folder}/rejection_curve.csv", _first("model", pd.concat(rejection_curves)))
            scalars |= oracle_accuracies(queries, dataset.seen)
            for key in ("auroc", "false_positive_rate_at_95_tpr"):
                scalars[f"rejection_{key}"] = rejections[0][key]
            ranks = leave_one_out(
                embeddings, class_ids, ~dataset.seen, recall_at=recall_at, threads=threads
            )
            answers.leave_one_out[dataset.class_set].append(ranks)
            for k in recall_at:
                scalars[f"recall_at_{k}_unseen_leave_one_out"] = recall(ranks, k)
            scalars = {key: None if value != value else value for key, value in scalars.items()}
            write(f"{folder}/scalars.json", scalars)
            run["limited"].append(summary)
            run["scalars"].append(scalars)
        runs.append(run)
    write("summary.csv", metrics_table(answers, runs, **bootstrap))


def check_curve(run, queries, seen, last):
    """Raise StudyError if the last point of a run's curve is not the accuracy of its embeddings.

    Both come from the last weights, but the curve's neighbours were found on the training's device,
    where rounding may decide between almost equal ones. So one query, or 1 % of them, may differ.
    ``last``: NaN if there is no such point; ``queries``, ``seen``: see `summarise`.
    """
    known = seen[queries["class_id"]]
    answer = "precision_at_1" if seen.all() else "before_enrolment"
    right = hits(queries, answer)[known]
    if len(right) and abs(last - right.mean()) * len(right) > max(1, 0.01 * len(right)) + 0.5:
        raise StudyError(
            f"{run}: its curve ends at a test accuracy of {last:.4f}, but its embeddings give "
            f"{right.mean():.4f}, so curves.csv and embeddings.npz are not from one training; train it "
            f"again with: snakemake … --forcerun results/experiments/NAME/{run}/model.pt"
        )


def oracle_accuracies(queries, seen):
    """Accuracy of the all-classes model on seen and unseen classes (micro), and the harmonic mean.

    ``queries``: its table of `answer_queries`; ``seen``: the mask over classes of a limited model.
    """
    known = seen[queries["class_id"]]
    correct = queries["correct"].to_numpy(dtype=float)
    of_seen, of_unseen = precision_at_1(correct[known]), precision_at_1(correct[~known])
    return {
        "all_classes_precision_at_1_seen_classes": of_seen,
        "all_classes_precision_at_1_unseen_classes": of_unseen,
        "all_classes_harmonic_mean": float(metrics.harmonic_mean(of_seen, of_unseen)),
    }


def _first(column, table):
    """A table with one column moved to the front."""
    return table[[column, *table.columns.drop(column)]]
