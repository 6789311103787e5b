"""A static pipeline with branches, retries, a flaky step and values too large for the record."""

from witness import fail_once, tell, work

from cupola import Retry, pipeline, step


@step(cache=False)
def add(total: int) -> int:
    tell("begin")
    work()
    tell("end")
    return total + 1


@step(cache=False, retry=Retry(attempts=3, delay=0))
def flaky(total: int) -> int:
    tell("begin")
    fail_once()
    work()
    tell("end")
    return total + 100


@step(cache=False)
def large(total: int) -> tuple[bytes, int]:
    tell("begin")
    data = bytes(range(256)) * 100 + str(total).encode()
    tell("end")
    return data, total


@step(cache=False)
def small(data: bytes) -> int:
    tell("begin")
    work()
    tell("end")
    return len(data)


@step(cache=False)
def gather(totals: list[int]) -> int:
    tell("begin")
    tell("end")
    return sum(totals)


@pipeline
def static(start: int = 1) -> int:
    ends = []
    for _ in range(3):
        total = add(start)
        for _ in range(3):
            total = add(total)
        data, total = large(flaky(total))
        ends += [small(data), add(total)]
    return gather(ends)
