"""Build the study's tables from the tables of each experiment."""

import argparse
import csv
import json
import logging
from pathlib import Path

import pandas as pd

from dmlstudy.core import console
from dmlstudy.data.dataset import write_csv
from dmlstudy.evaluate import literature, published
from dmlstudy.evaluate.answer_hits import HITS, AnswerHits
from dmlstudy.evaluate.comparison import (
    CLASSIFIER,
    PRETRAINING,
    UNTRAINED,
    check_values,
    differences_table,
    experiments_table,
    pairs,
)
from dmlstudy.evaluate.health_table import baseline_notice, counted
from dmlstudy.evaluate.stored_runs import StoredRuns
from dmlstudy.evaluate.verdict import verdict_table
from dmlstudy.evaluate.verdict_costs import start_seconds, verdict_costs_table


def read_rows(path):
    """A small hand-written table, as dictionaries of texts."""
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", required=True, help="folder of all experiments")
    parser.add_argument(
        "--rows",
        required=True,
        type=json.loads,
        help="JSON: a list of {experiment, block, details, like, untrained, trained, starts_from, start_row}",
    )
    parser.add_argument(
        "--pretraining",
        type=json.loads,
        default=[],
        help="JSON: rows of pretraining.csv, what is known of the weights that experiments start from",
    )
    parser.add_argument("--seeds", required=True, type=int, nargs="+")
    parser.add_argument(
        "--class-sets", required=True, nargs="+", help="tables of class sets, the full set first"
    )
    parser.add_argument("--baseline", required=True)
    parser.add_argument("--data", required=True, help="name of the data, for every table")
    parser.add_argument("--published", required=True, help="table of published metrics")
    parser.add_argument("--published-deductions", required=True)
    parser.add_argument(
        "--reproduction",
        required=True,
        type=json.loads,
        help="JSON: which experiments are comparable with published ones",
    )
    parser.add_argument("--published-size", required=True, type=int, nargs=2, metavar="N",
                        help="numbers of gallery images and queries in the published study")  # fmt: skip
    parser.add_argument("--model-costs", required=True, help="table of measure_models.py")
    parser.add_argument(
        "--start-costs",
        required=True,
        type=json.loads,
        help='JSON: {experiment: {"CLASS_SET SEED": cost files of what a run starts from}}',
    )
    parser.add_argument("--equivalence-margin", type=float, default=0.02)
    parser.add_argument("--bootstrap-draws", type=int, default=10_000)
    parser.add_argument("--bootstrap-seed", type=int, default=42)
    parser.add_argument("--out", required=True, help="folder for the tables")
    parser.add_argument("--log")
    args = parser.parse_args()
    out, descriptions = Path(args.out), {row["experiment"]: row for row in args.rows}

    def write(name, table):
        write_csv(out / f"{name}.csv", table)

    def work():
        runs = StoredRuns.read(args.experiments, descriptions, args.seeds, args.class_sets)
        every_set = list(runs.class_sets)
        answers = {name: runs.answers(name) for name in descriptions}
        metrics = {name: runs.metrics(name) for name in descriptions}
        facts = runs.facts()
        check_values(answers, metrics)

        # The classical classifier, if there is one: the experiment that has softmax answers.
        classifier = next(
            (name for name in descriptions if "softmax_accuracy" in metrics[name].index), None
        )
        # A configuration with published figures of its own is not about the original study's.
        own_figures = "figures" in args.reproduction
        deductions = [] if own_figures else read_rows(args.published_deductions)
        published_pairs = published.pairs_of_deductions(deductions, args.reproduction["matches"])
        differences = differences_table(
            answers,
            pairs(descriptions, args.baseline, classifier, published_pairs),
            draws=args.bootstrap_draws,
            seed=args.bootstrap_seed,
        )
        reproduction = published.Reproduction.of_tables(
            args.reproduction["matches"],
            metrics,
            differences[~differences["role"].isin([CLASSIFIER, UNTRAINED])],
            {name: runs.mean_curve(name) for name in descriptions},
            args.reproduction["obstacle"]
            or published.other_size((facts["gallery"], facts["queries"]), args.published_size),
        )
        if own_figures:
            size = facts["gallery"], facts["queries"]
            verdicts = literature.judge_figures(args.reproduction, reproduction, size)
            beside = literature.beside_experiments(verdicts)
        else:
            verdicts = published.judge_metrics(read_rows(args.published), reproduction)
            beside = published.for_experiments(verdicts, descriptions)
        judged = published.judge_deductions(deductions, reproduction, args.equivalence_margin)
        table = experiments_table(
            metrics,
            differences,
            descriptions,
            args.seeds,
            args.baseline,
            {"data": args.data, **facts},
            beside,
        )
        write("experiments", table)
        write("differences", differences.assign(data=args.data))
        every = [table.reset_index().assign(experiment=name) for name, table in metrics.items()]
        every = pd.concat(every, ignore_index=True).assign(data=args.data)
        write("metrics", every[["experiment", *every.columns.drop("experiment")]])
        write("published", verdicts.assign(data=args.data))
        write("published_deductions", judged.assign(data=args.data))

        def gathered(file, class_sets):
            table = runs.gathered(file, class_sets)
            table.insert(1, "data", args.data)
            return table

        health = runs.of_experiments("health.csv")
        write("health", health)
        logging.info("health of all trainings: %s", counted(health) or "no warning")
        for sentence in baseline_notice(health, args.baseline):
            logging.warning("the baseline is worse than before its training: %s", sentence)
        write("enrolment", gathered("enrolment.csv", runs.limited))
        write("rejection", gathered("rejection.csv", runs.limited))
        for name in ("rejection_scores", "rejection_thresholds"):
            write(name, runs.of_experiments(f"{name}.csv"))
        # Without times, so that the table is the same for each run.
        write("curves", gathered("curves.csv", every_set).drop(columns="seconds"))
        costs = gathered("cost.json", every_set)
        write("costs", costs)
        # The columns are given, because most studies have no such rows.
        known = pd.DataFrame(args.pretraining, columns=PRETRAINING)
        write("pretraining", known.assign(data=args.data))
        write("answers", runs.of_experiments("answers.csv"))
        answers_costs = runs.of_experiments("answers_costs.csv")
        write("answers_costs", answers_costs)
        hits = {name: AnswerHits.read(runs.root / name / HITS) for name in descriptions}
        verdict = verdict_table(
            hits,
            {name: row["trained"] for name, row in descriptions.items()},
            {name: runs.class_sets[name] for name in runs.limited},
            draws=args.bootstrap_draws,
            seed=args.bootstrap_seed,
        )
        verdict.insert(1, "data", args.data)
        write("verdict", verdict)
        of_options = verdict_costs_table(
            verdict,
            costs,
            answers_costs,
            pd.read_csv(args.model_costs),
            start_seconds(costs, args.start_costs),
            {name: one.class_weights for name, one in hits.items()},
            gallery=facts["gallery"],
        )
        of_options.insert(1, "data", args.data)
        write("verdict_costs", of_options)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
