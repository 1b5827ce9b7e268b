"""The only package that calls llama.cpp."""

import os

# Threads of GNU's OpenMP, with which llama.cpp computes, wait for each other by spinning, for
# milliseconds unless they are told otherwise: beside another busy process that keeps the thread
# they wait for from its core. Some microseconds are enough for the waits within a step. OpenMP
# reads this when it is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
