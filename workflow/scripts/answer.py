"""Answer the queries of one experiment in several ways, from stored embeddings. Trains nothing."""

import json
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.core import console
from dmlstudy.data.dataset import write_csv
from dmlstudy.evaluate.answer_hits import HITS
from dmlstudy.evaluate.answer_tables import answer_experiment, one_thread
from dmlstudy.evaluate.experiment_options import (
    add_untrained,
    class_sets,
    experiment_parser,
    run_reader,
)


def main():
    parser = experiment_parser(__doc__)
    add_untrained(parser)
    parser.add_argument(
        "--answers",
        required=True,
        type=json.loads,
        help='JSON: a list of {"kind": name, parameter: value}, the nearest neighbour first',
    )
    parser.add_argument("--enrolment-images", type=int, nargs="*", default=[1, 2, 5, 10, 20])
    parser.add_argument("--enrolment-draws", type=int, default=10)
    parser.add_argument("--out", required=True, help="folder for the tables")
    args = parser.parse_args()
    folder = Path(args.experiment)

    def work():
        sets = class_sets(args)

        with one_thread():
            tables, hits = answer_experiment(
                sets,
                args.seeds,
                run_reader(args, sets),
                args.answers,
                enrolment_images=args.enrolment_images,
                enrolment_draws=args.enrolment_draws,
                bootstrap_draws=args.bootstrap_draws,
                bootstrap_seed=args.bootstrap_seed,
            )
        for name, table in tables.items():
            table.insert(0, "experiment", folder.name)
            table.insert(1, "data", args.data)
            write_csv(Path(args.out) / f"{name}.csv", table)
        hits.write(Path(args.out) / HITS)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
