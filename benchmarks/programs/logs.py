"""logs.py MEGABYTES [floor]: print so much in lines of 100 bytes, in a step or, as the floor, plainly; says seconds."""

import json
import sys
import time

MEGABYTES = int(sys.argv[1])
LINE = "x" * 93


def write(megabytes: int) -> int:
    lines = megabytes * 10_000
    for number in range(lines):
        print(f"{LINE}{number % 10**6:06d}")
    return lines


def subject() -> int:
    from cupola import pipeline, step

    talk = step(write)

    @pipeline
    def logs(megabytes: int) -> int:
        return talk(megabytes)

    return logs(megabytes=MEGABYTES).output.load()


if __name__ == "__main__":
    began = time.perf_counter()
    lines = write(MEGABYTES) if sys.argv[2:] == ["floor"] else subject()
    sys.stdout.flush()
    print(json.dumps({"seconds": time.perf_counter() - began}))
