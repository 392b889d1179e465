"""Make two-dimensional maps of the embeddings of some runs, by UMAP."""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.core import console
from dmlstudy.data.dataset import write_csv
from dmlstudy.evaluate.embedding_map import embedding_map
from dmlstudy.evaluate.retrieval import read_embeddings


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs", required=True, nargs="+", help="folders of runs; each gets a map.csv"
    )
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        for run in map(Path, args.runs):
            embeddings = read_embeddings(run / "embeddings.npz")
            table = embedding_map(embeddings, seed=args.seed, threads=args.threads)
            write_csv(run / "map.csv", table)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
