"""A pipeline of mapped steps: over a list that a step makes, its items too large for the record, chained, gathered."""

from witness import fail_once, tell, work

from cupola import Retry, pipeline, step, unmapped


@step(cache=False)
def find(count: int) -> list[bytes]:
    tell("begin")
    tell("end")
    return [bytes([number]) * 5000 for number in range(count)]


@step(cache=False)
def size(data: bytes, offset: int) -> int:
    tell("begin")
    work()
    tell("end")
    return len(data) + data[0] + offset


@step(cache=False, retry=Retry(attempts=3, delay=0))
def flaky(total: int) -> int:
    tell("begin")
    fail_once()
    work()
    tell("end")
    return total + 100


@step(cache=False)
def flaky_pair(left: int, right: int) -> int:
    tell("begin")
    if left == right:
        raise ValueError("equal")
    tell("end")
    return left * right


@step(cache=False)
def gather(totals: list[int]) -> int:
    tell("begin")
    work()
    tell("end")
    return sum(totals)


@pipeline
def mapped(count: int = 6) -> list[int]:
    offset = gather(flaky_pair.product([1, 2, 3], [1, 2, 3]).collect(allow_failures=True))
    totals = flaky.map(size.map(find(count), offset=unmapped(offset)))
    return [gather(totals), gather(flaky.map([]))]
