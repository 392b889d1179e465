"""Send the curve of a training to Weights & Biases. train.py starts it; it ends when its input ends."""

import argparse
import json
import os
import select
import sys

from dmlstudy.track import tracking
from dmlstudy.track.live_curve import SETTINGS, curves_of


def ended(seconds):
    """Whether the training (it holds the other end of our input) is over; waits at most ``seconds``."""
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, help="folder of the run")
    parser.add_argument(
        "--training", required=True, type=json.loads, help="JSON: experiment, class set and recipe"
    )
    args = parser.parse_args()
    try:
        settings = json.loads(os.environ[SETTINGS])
        training = args.training
        what = {
            "results": settings["results"],
            "experiment": training["experiment"],
            "class_set": {"name": training["class_set"]},
            "seed": training["spec"]["seed"],
            "recipe": training["spec"],
        }
        headings = tracking.headings(settings, what, "training")
        curves = dict(zip(curves_of(args.folder), training["before"], strict=True))
        tracking.follow(headings, settings["mode"], settings["root"], curves, ended)
        code = 0
    except BaseException as error:
        print(tracking.in_words(error), file=sys.stderr, flush=True)
        code = 1
    # No clean exit: the library's exit handlers may wait for a service that is gone.
    os._exit(code)


if __name__ == "__main__":
    main()
