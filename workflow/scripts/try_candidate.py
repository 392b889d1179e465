"""Train one candidate of a selection on some training images of the seen classes, and score it."""

import os

# On a shared machine, waiting threads that spin slow everything down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.train import candidate_job
from dmlstudy.train.job import Packs


def main():
    candidate_job.main(__doc__, Packs)


if __name__ == "__main__":
    main()
