"""What all tests share. Threads that wait must sleep, or a small machine slows to a crawl."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
