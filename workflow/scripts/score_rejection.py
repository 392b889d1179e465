"""Score how well the models of one experiment reject, from their stored embeddings. Trains nothing."""

import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.core import console
from dmlstudy.core.options import check_input, check_number
from dmlstudy.data.dataset import write_csv
from dmlstudy.evaluate.experiment_options import (
    add_untrained,
    class_sets,
    experiment_parser,
    run_reader,
)
from dmlstudy.evaluate.rejection_scores import score_experiment
from dmlstudy.evaluate.scores.pieces import SCORES

SIMILARITY = "similarity"


def main():
    parser = experiment_parser(__doc__)
    add_untrained(parser)
    parser.add_argument(
        "--scores",
        nargs="+",
        choices=SCORES,
        default=list(SCORES),
        help="scores to compare; the similarity always is one of them",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out-scores", required=True, help="table of scores to write")
    parser.add_argument("--out-thresholds", required=True, help="table of thresholds to write")
    args = parser.parse_args()
    folder = Path(args.experiment)

    def work():
        check_number("--threads", args.threads, least=1)
        check_number("--bootstrap-draws", args.bootstrap_draws, least=1)
        check_input("--experiment", folder, folder=True)
        sets = class_sets(args)
        tables = score_experiment(
            sets,
            args.seeds,
            run_reader(args, sets),
            untrained=args.untrained,
            draws=args.bootstrap_draws,
            seed=args.bootstrap_seed,
            threads=args.threads,
            names=[name for name in SCORES if name in {SIMILARITY, *args.scores}],
        )
        for path, table in zip((args.out_scores, args.out_thresholds), tables, strict=True):
            table.insert(0, "experiment", folder.name)
            table.insert(1, "data", args.data)
            write_csv(path, table)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
