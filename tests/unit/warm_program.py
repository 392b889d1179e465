"""``warm_program.py PROGRAM ARGUMENTS…`` is ``python PROGRAM ARGUMENTS…``, as a fork of a process with its packages.

Importing torch takes longer than a benchmark of the sizes that the tests use.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow" / "scripts"))
import start

PACKAGES = (
    *("pandas", "torch", "torchvision", "pytorch_metric_learning.losses"),
    *("faiss", "scipy.stats", "sklearn.metrics"),
)
start.GROUPS = {"benchmark": ((os.path.basename(sys.argv[1]),), PACKAGES)}
start.main(*sys.argv[1:])
