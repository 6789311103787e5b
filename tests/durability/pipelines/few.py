"""A small pipeline that writes in all the ways that a run can: values in the record and as blobs, a retry, output."""

from witness import fail_once, tell, wait_for_go

from cupola import Retry, pipeline, save_artifact, step


@step(cache=False)
def large() -> bytes:
    tell("begin")
    print("making what is large")
    tell("end")
    return bytes(range(256)) * 100


@step(cache=False, retry=Retry(attempts=2, delay=0))
def flaky(data: bytes) -> int:
    tell("begin")
    fail_once()
    save_artifact({"size": len(data)}, "size")
    tell("end")
    return len(data)


@step(cache=False)
def last(size: int) -> int:
    tell("begin")
    wait_for_go()
    tell("end")
    return size + 1


@pipeline
def few() -> int:
    return last(flaky(large()))
