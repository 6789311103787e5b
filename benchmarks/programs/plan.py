"""plan.py N: plan a chain of N steps that were run before; says seconds."""

import json
import sys
import time

from chain import chain

if __name__ == "__main__":
    began = time.perf_counter()
    chain.plan(length=int(sys.argv[1]))
    print(json.dumps({"seconds": time.perf_counter() - began}))
