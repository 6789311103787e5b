"""A dynamic pipeline: loops over values, submitted and mapped calls, a failure that is caught, recorded values."""

from witness import fail_once, tell, work

from cupola import Retry, StepFailed, as_completed, get_step_context, pipeline, step, unmapped, value


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
def flaky_refusal(total: int) -> int:
    tell("begin")
    raise ValueError(f"not {total}")


@step(cache=False)
def gather(totals: list[int]) -> int:
    tell("begin")
    work()
    tell("end")
    return sum(totals)


@pipeline(dynamic=True)
def dynamic(count: int = 4) -> int:
    offset = 1 if get_step_context().run.random() < 2 else 0
    total = gather([count])
    while value(total) < 200:
        total = flaky(total)
    try:
        flaky_refusal(total)
    except StepFailed:
        total = gather([total, 1])
    sizes = size.map(find(count), offset=unmapped(offset))
    doubled = [flaky.submit(number) for number in (1000, 2000)]
    ends = sorted(future.load() for future in as_completed(doubled))
    return gather([total, gather(sizes), *ends])
