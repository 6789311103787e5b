"""A small pipeline that writes in the ways that mapped steps do: items and results as blobs, a retry, a chain."""

from witness import fail_once, tell, wait_for_go

from cupola import Retry, pipeline, step


@step(cache=False)
def large() -> list[bytes]:
    tell("begin")
    tell("end")
    return [bytes(5000), bytes(6000)]


@step(cache=False, retry=Retry(attempts=2, delay=0))
def flaky(data: bytes) -> bytes:
    tell("begin")
    fail_once()
    tell("end")
    return data + data


@step(cache=False)
def size(data: bytes) -> int:
    tell("begin")
    tell("end")
    return len(data)


@step(cache=False)
def last(sizes: list[int]) -> int:
    tell("begin")
    wait_for_go()
    tell("end")
    return sum(sizes)


@pipeline
def few_mapped() -> int:
    return last(size.map(flaky.map(large())))
