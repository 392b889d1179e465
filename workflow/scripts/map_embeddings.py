"""Make two-dimensional maps of the embeddings of some runs, by UMAP."""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.core import console
from dmlstudy.data.dataset import read_manifest, write_csv
from dmlstudy.evaluate.embedding_map import embedding_map, on_map
from dmlstudy.evaluate.retrieval import read_embeddings


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs", required=True, nargs="+", help="folders of runs; each gets a map.csv"
    )
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        # Both models show the same images.
        chosen = on_map(read_manifest(args.manifest)["class_id"].to_numpy(), args.seed)
        for run in map(Path, args.runs):
            embeddings = read_embeddings(run / "embeddings.npz")
            table = embedding_map(embeddings, seed=args.seed, chosen=chosen, threads=args.threads)
            write_csv(run / "map.csv", table)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
