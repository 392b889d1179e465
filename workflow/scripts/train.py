"""Train one run (the model of an experiment, class set and seed) and embed all images with it."""

import os

# On a shared machine, waiting threads that spin slow everything down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.train import run_job
from dmlstudy.train.job import Packs


def main():
    run_job.main(__doc__, Packs)


if __name__ == "__main__":
    main()
