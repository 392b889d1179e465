"""Train one run on stored features: only the head and the loss train. Embed all images with it."""

import os

# On a shared machine, waiting threads that spin slow everything down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.train import run_job
from dmlstudy.train.stored_features import StoredFeatures


def main():
    run_job.main(__doc__, StoredFeatures)


if __name__ == "__main__":
    main()
