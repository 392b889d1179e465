"""Options of the programs that evaluate one experiment from the stored embeddings of its runs."""

import argparse
from pathlib import Path

from dmlstudy.data.dataset import Dataset
from dmlstudy.evaluate.retrieval import read_embeddings


def experiment_parser(description):
    """A parser with the options that all of these programs have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--experiment", required=True, help="folder of the experiment")
    parser.add_argument("--seeds", required=True, type=int, nargs="+")
    parser.add_argument("--data", required=True, help="name of the data, for every table")
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument(
        "--class-sets", required=True, nargs="+", help="tables of class sets, the full set first"
    )
    parser.add_argument("--bootstrap-draws", type=int, default=10_000)
    parser.add_argument("--bootstrap-seed", type=int, default=42)
    parser.add_argument("--log")
    return parser


def add_untrained(parser):
    """The option of programs that read fewer runs of models that were not fitted: see `run_reader`."""
    parser.add_argument(
        "--untrained",
        action="store_true",
        help="the models were not fitted to any image of the data set, so that the first class set's "
        "stands for those of all class sets",
    )


def class_sets(args):
    """A `Dataset` per class set."""
    return [Dataset.read(args.manifest, args.split, path) for path in args.class_sets]


def run_folder(args, seed, class_set):
    return Path(args.experiment) / f"seed{seed}" / class_set


def embeddings_of_run(args, seed, class_set):
    """Stored embeddings of a run, see `retrieval.read_embeddings`."""
    return read_embeddings(run_folder(args, seed, class_set) / "embeddings.npz")


def run_reader(args, datasets):
    """`embeddings_of_run` as a function of seed and class set.

    ``args``: with the option of `add_untrained`; ``datasets``: see `class_sets`.
    """

    def read(seed, class_set):
        name = datasets[0].class_set if args.untrained else class_set
        return embeddings_of_run(args, seed, name)

    return read
