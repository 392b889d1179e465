"""Measure the models of a study: parameters, operations and milliseconds a photograph. Trains nothing."""

import argparse
import json
import os

# On a shared machine, waiting threads that spin slow everything down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pandas as pd

from dmlstudy.compute.model_costs import milliseconds, size
from dmlstudy.core import console
from dmlstudy.core.canonical import canonical_json
from dmlstudy.core.files import read_json
from dmlstudy.core.interruptions import end_at_signals
from dmlstudy.data.dataset import write_csv

# What decides how long a photograph takes.
TIMED = ("backbone", "image_size", "head")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--models",
        required=True,
        type=json.loads,
        help="JSON: {experiment: {backbone, image_size, head, frozen_batchnorm, backbone_trains, "
        "trained_parts, trains}}",
    )
    parser.add_argument(
        "--chosen",
        type=json.loads,
        default={},
        help="JSON: {experiment: its chosen.json}, whose values replace those of --models",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True, help="table to write")
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        end_at_signals()
        rows, times = [], {}
        with console.Progress(len(args.models), "models", "models") as progress:
            for name, model in args.models.items():
                if name in args.chosen:
                    selected = read_json(args.chosen[name])["recipe"]
                    model |= {key: value for key, value in selected.items() if key in model}
                key = canonical_json({part: model[part] for part in TIMED})
                if key not in times:
                    times[key] = milliseconds(
                        model, device=args.device, precision=args.precision, threads=args.threads
                    )
                taken, device = times[key]
                measured = {"milliseconds_a_photograph": taken, "device": device}
                rows.append({"experiment": name, **size(model)._asdict(), **measured})
                progress(1)
        write_csv(args.out, pd.DataFrame(rows))

    console.run(work, args.log)


if __name__ == "__main__":
    main()
