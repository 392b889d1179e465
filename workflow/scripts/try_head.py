"""Train one candidate of a selection on stored features of the seen classes, and score it."""

import os

# On a shared machine, waiting threads that spin slow everything down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.train import candidate_job
from dmlstudy.train.stored_features import StoredFeatures


def main():
    candidate_job.main(__doc__, StoredFeatures)


if __name__ == "__main__":
    main()
