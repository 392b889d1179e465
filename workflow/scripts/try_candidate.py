"""Train one candidate of a selection on some training images of the seen classes, and score it."""

import os

# On a shared machine, waiting threads that spin slow everything down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.train.candidate_job import main
from dmlstudy.train.job import Packs

if __name__ == "__main__":
    main(__doc__, Packs)
