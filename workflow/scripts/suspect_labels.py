"""List photographs whose label may be wrong, by the embeddings of a run, and build a page of them."""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.core import console
from dmlstudy.core.files import write_text
from dmlstudy.data.dataset import Dataset, read_manifest, write_csv
from dmlstudy.data.pack import Pack
from dmlstudy.evaluate.retrieval import read_embeddings
from dmlstudy.evaluate.suspected_labels import suspected_labels
from dmlstudy.pages.suspects_page import named, suspects_page


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embeddings", required=True, help="embeddings of a run with all classes")
    parser.add_argument("--experiment", required=True, help="name of the experiment, for the page")
    parser.add_argument("--untrained", action="store_true", help="its features were not trained")
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--class-set", required=True, help="table of the full class set")
    parser.add_argument("--pack", required=True, help="folder of a pack of the data set")
    parser.add_argument("--note", default="", help="text about the data for the top of the page")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out-table", required=True)
    parser.add_argument("--out-page", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        dataset = Dataset.read(args.manifest, args.split, args.class_set)
        manifest = read_manifest(args.manifest)
        found = suspected_labels(
            read_embeddings(Path(args.embeddings)), dataset.class_ids, threads=args.threads
        )
        table = named(found, manifest, dataset.parts, dataset.class_names)
        write_csv(args.out_table, table)
        page = suspects_page(
            table,
            Pack(args.pack),
            manifest,
            experiment=args.experiment,
            untrained=args.untrained,
            note=args.note,
        )
        write_text(args.out_page, page)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
