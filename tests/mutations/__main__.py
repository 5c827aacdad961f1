"""Runs the mutations whose names contain a pattern: python -m tests.mutations [PATTERN]."""

import sys
import time

from tests.mutations.catalogue import ALL
from tests.mutations.running import outcomes

if __name__ == "__main__":
    pattern, start = " ".join(sys.argv[1:]), time.monotonic()
    chosen, survivors = [x for x in ALL if pattern in x.name], []
    for mutation, noticed, seconds in outcomes(chosen):
        print(f"{seconds:5.1f} s  {mutation.name}: {noticed or 'SURVIVED'}", flush=True)
        survivors += [] if noticed else [mutation.name]
    print(f"{len(survivors)} of {len(chosen)} survived, {time.monotonic() - start:.0f} s")
    print(*survivors, sep="\n")
    sys.exit(bool(survivors))
