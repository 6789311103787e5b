"""A small pipeline with a step that makes checkpoints.

What the step is given of them must be one that it made, whatever fails while it makes the next one.
"""

from witness import fail_once, tell, wait_for_go

from cupola import Retry, checkpoint, get_step_context, pipeline, step


@step(cache=False)
def large() -> bytes:
    tell("begin")
    tell("end")
    return bytes(range(256)) * 100


@step(cache=False, retry=Retry(attempts=2, delay=0))
def flaky(data: bytes) -> int:
    tell("begin")
    reached, ballast = get_step_context().resume_state or (0, data)
    assert ballast == data
    for number in range(reached + 1, 4):
        checkpoint((number, data))
        if number == 2:
            fail_once()
    tell("end")
    return len(data)


@step(cache=False)
def last(size: int) -> int:
    tell("begin")
    wait_for_go()
    tell("end")
    return size + 1


@pipeline
def few_checkpoints() -> int:
    return last(flaky(large()))
