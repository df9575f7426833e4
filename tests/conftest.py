"""Set before torch is imported: many small processes, a thread each."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
