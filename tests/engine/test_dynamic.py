"""Dynamic pipelines: Python's own control flow over values, futures, threads, nested pipelines, and their record."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, NamedTuple

import pytest

import cupola
from cupola import (
    Client,
    CompileError,
    Retry,
    RunFailed,
    StepFailed,
    as_completed,
    get_step_context,
    pipeline,
    step,
    unmapped,
    value,
)

pytestmark = pytest.mark.feature("ENG-04")


@step
def start(x: int = 1) -> int:
    return x


@step
def double(x: int) -> int:
    return 2 * x


@step
def halves(x: int) -> tuple[Annotated[int, "low"], Annotated[int, "high"]]:
    return x // 2, x - x // 2


@step
def total(items: list[int]) -> int:
    return sum(items)


@step(cache=False)
def fail(x: int = 0) -> int:
    raise ValueError(f"no luck with {x}")


@step
def nothing() -> None:
    """Make nothing."""


def statuses(run: cupola.Run) -> dict[str, str]:
    return {name: str(one.status) for name, one in run.steps.items()}


def test_control_flow_decides_over_loaded_values(home: Path) -> None:
    @pipeline(dynamic=True)
    def grow(limit: int = 20) -> int:
        x = start()
        while value(x) < limit:
            x = double(x)
        return x

    run = grow(limit=10)
    assert str(run.status) == "completed"
    assert run.output.load() == 16
    assert list(run.steps) == ["start", "double", "double_2", "double_3", "double_4"]
    assert set(statuses(run).values()) == {"completed"}
    assert run.steps["double_2"].inputs["x"].load() == 2
    assert run.params == {"limit": 10}
    again = grow(limit=10)
    assert set(statuses(again).values()) == {"cached"}
    assert again.output.load() == 16
    assert [str(one.status) for one in Client().runs.list()] == ["completed", "completed"]


def test_several_outputs_unpack_and_load_together(home: Path) -> None:
    seen = []

    @pipeline(dynamic=True)
    def both() -> int:
        low, high = halves(start(7))
        seen.append((value(low), high.load()))
        future = halves.submit(9)
        seen.append(future.load())
        first, second = future
        seen.append((first.load(), value(second)))
        seen.append(value(halves(4)))
        nothing()
        assert nothing.submit().load() is None
        return total([low, first, 1])

    run = both()
    assert seen == [(3, 4), (4, 5), (4, 5), (2, 2)]
    assert run.output.load() == 3 + 4 + 1


class Pair(NamedTuple):
    a: int
    b: str


@step
def pair() -> Pair:
    return Pair(1, "x")


def test_a_named_tuple_of_outputs_loads_as_one(home: Path) -> None:
    seen = []

    @pipeline(dynamic=True)
    def named() -> None:
        made = pair()
        seen.append(value(made))
        seen.append(value(made.b))
        seen.append(pair.submit().load())

    named()
    assert seen == [Pair(1, "x"), "x", Pair(1, "x")]
    assert type(seen[0]) is type(seen[2]) is Pair


def test_a_failure_that_the_pipeline_catches_is_no_end(home: Path) -> None:
    caught: list[StepFailed] = []

    @pipeline(dynamic=True)
    def lenient() -> int:
        try:
            fail(3)
        except StepFailed as error:
            caught.append(error)
        return double(1)

    run = lenient()
    assert str(run.status) == "completed"
    assert statuses(run) == {"fail": "failed", "double": "completed"}
    assert caught[0].step == "fail"
    assert isinstance(caught[0].__cause__, ValueError)
    assert "step 'fail' failed: ValueError: no luck with 3" in str(caught[0])


def test_a_failure_that_nobody_catches_ends_the_run_with_the_users_exception(home: Path) -> None:
    @pipeline(dynamic=True)
    def strict() -> int:
        return double(fail(double(4)))

    with pytest.raises(RunFailed, match="failed in step 'fail': ValueError: no luck with 8") as caught:
        strict()
    assert isinstance(caught.value.__cause__, ValueError)
    assert statuses(caught.value.run) == {"double": "completed", "fail": "failed"}


def test_a_failure_that_nobody_looked_at_ends_the_run(home: Path) -> None:
    @pipeline(dynamic=True)
    def careless() -> int:
        fail.submit(1)
        return double(2)

    with pytest.raises(RunFailed, match="failed in step 'fail'"):
        careless()


def test_an_error_of_the_function_itself_fails_the_run(home: Path) -> None:
    @pipeline(dynamic=True)
    def wrong() -> int:
        start()
        raise KeyError("nowhere")

    with pytest.raises(RunFailed, match="failed in its pipeline function: KeyError: 'nowhere'") as caught:
        wrong()
    assert isinstance(caught.value.__cause__, KeyError)
    run = caught.value.run
    assert str(run.status) == "failed"
    assert "KeyError" in str(run.error)
    assert "test_dynamic.py" in (run.error.where or "")


def test_submitted_steps_run_at_the_same_time_and_are_taken_as_they_end(home: Path, tmp_path: Path) -> None:
    @step(cache=False)
    def meet(mine: str, other: str) -> str:
        (tmp_path / mine).touch()
        end = time.monotonic() + 20
        while not (tmp_path / other).exists():
            assert time.monotonic() < end, "the other step isn't running"
            time.sleep(0.01)
        return mine

    order = []

    @pipeline(dynamic=True)
    def parallel() -> None:
        futures = [meet.submit("a", "b"), meet.submit("b", "a")]
        order.extend(future.load() for future in as_completed(futures))
        assert all(future.done() for future in futures)

    run = parallel()
    assert sorted(order) == ["a", "b"]
    assert statuses(run) == {"meet": "completed", "meet_2": "completed"}


def test_futures_are_inputs_and_what_needs_a_failed_one_never_runs(home: Path) -> None:
    errors: list[StepFailed | None] = []

    @pipeline(dynamic=True)
    def wired() -> int:
        late = double.submit(double.submit(start.submit(3)))
        lost = double.submit(fail.submit(1))
        errors.append(lost.exception())
        errors.append(late.exception())
        return total([late, late])

    run = wired()
    assert run.output.load() == 24
    assert "it needs step 'fail', which failed: ValueError: no luck with 1" in str(errors[0])
    assert errors[1] is None
    assert "double_3" not in run.steps


def test_retries_and_named_calls_work_as_in_static_pipelines(home: Path, tmp_path: Path) -> None:
    @step(cache=False, retry=Retry(attempts=3, delay=0))
    def flaky() -> int:
        if get_step_context().attempt < 3:
            raise OSError("not yet")
        return get_step_context().attempt

    @pipeline(dynamic=True)
    def tries() -> int:
        double.named("mine").after(start(5))(2)
        return flaky()

    run = tries()
    assert run.output.load() == 3
    assert list(run.steps) == ["start", "mine", "flaky"]
    assert [attempt.number for attempt in run.steps["flaky"].attempts] == [1, 2, 3]


def test_pipelines_nest_with_their_name_before_their_steps(home: Path) -> None:
    @pipeline
    def prepare(x: int) -> int:
        return double(double(x))

    @pipeline(dynamic=True)
    def countdown(n: int) -> int:
        if n == 0:
            return start(0)
        return total([countdown.inline(n - 1), n])

    @pipeline(dynamic=True)
    def outer() -> int:
        return total([prepare.inline(1), countdown.inline(2)])

    run = outer()
    assert run.output.load() == 4 + 3
    assert "prepare/double_2" in run.steps
    assert "countdown/countdown/countdown/start" in run.steps


def test_a_pipeline_that_calls_itself_without_end_is_refused(home: Path) -> None:
    @pipeline(dynamic=True)
    def endless() -> int:
        return endless.inline()

    with pytest.raises(RunFailed, match="nested more than 50 deep"):
        endless()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_threads_of_the_function_call_steps(home: Path, monkeypatch, workers: str) -> None:
    monkeypatch.setenv("CUPOLA_WORKERS", workers)

    @pipeline(dynamic=True)
    def threaded() -> int:
        with ThreadPoolExecutor(4) as threads:
            outputs = list(threads.map(lambda x: double(x), range(12)))
        return total(outputs)

    run = threaded()
    assert run.output.load() == 2 * sum(range(12))
    assert len(run.steps) == 13
    assert set(statuses(run).values()) == {"completed"}


def test_a_call_after_the_end_is_refused(home: Path) -> None:
    ended, results = threading.Event(), []

    def late() -> None:
        ended.wait(20)
        try:
            results.append(value(double(1)))
        except CompileError as error:
            results.append(str(error))

    @pipeline(dynamic=True)
    def leaves() -> int:
        thread = threading.Thread(target=late)
        thread.start()
        threads.append(thread)
        return start()

    threads: list[threading.Thread] = []
    leaves()
    ended.set()
    threads[0].join(20)
    assert results == [2], "the pipeline is over, so it is a plain call"


def test_the_context_gives_values_that_are_recorded(home: Path) -> None:
    seen = []

    @pipeline(dynamic=True)
    def dated() -> None:
        run = get_step_context().run
        seen.append((run.now(), run.random(), run.uuid(), run.name))
        start()

    dated()
    ((when, number, identifier, name),) = seen
    assert when.tzinfo is not None
    assert 0 <= number < 1
    assert identifier.version == 4
    assert name.startswith("dated-")


def test_what_only_dynamic_pipelines_have_is_refused_elsewhere_with_the_remedy(home: Path) -> None:
    @pipeline
    def static() -> int:
        return double.submit(1)  # type: ignore[return-value]

    with pytest.raises(CompileError, match=r"double\.submit\(…\) was called in 'static', which is static"):
        static()
    with pytest.raises(CompileError, match="was called outside of a pipeline"):
        double.submit(1)
    assert value(3) == 3
    assert value([1, (2,)]) == [1, (2,)]


def test_a_future_used_as_a_value_says_how_to_load_it(home: Path) -> None:
    @pipeline(dynamic=True)
    def sloppy() -> int:
        if double(1) > 1:
            return start()
        return start(2)

    with pytest.raises(RunFailed, match=r"was used as a value \(>\)") as caught:
        sloppy()
    assert ".load() or value(…)" in str(caught.value)


def test_wiring_is_checked_when_a_call_is_made(home: Path) -> None:
    @step
    def text() -> str:
        return "x"

    @pipeline(dynamic=True)
    def mistyped() -> int:
        return double(text())  # type: ignore[arg-type]

    with pytest.raises(RunFailed, match="str") as caught:
        mistyped()
    assert isinstance(caught.value.__cause__, CompileError)
    assert list(caught.value.run.steps) == ["text"]


def test_a_future_that_takes_too_long_times_out(home: Path, tmp_path: Path) -> None:
    @step(cache=False)
    def wait_for_file() -> int:
        end = time.monotonic() + 20
        while not (tmp_path / "go").exists() and time.monotonic() < end:
            time.sleep(0.01)
        return 1

    @pipeline(dynamic=True)
    def patient() -> int:
        future = wait_for_file.submit()
        with pytest.raises(TimeoutError, match=r"isn't over after 0\.2 s"):
            future.load(timeout_s=0.2)
        with pytest.raises(TimeoutError):
            list(as_completed([future], timeout_s=0.1))
        assert not future.done()
        (tmp_path / "go").touch()
        return value(future)

    # What a static pipeline could not return is a plain value here.
    assert patient().output.load() == 1


def test_the_process_stays_as_the_function_left_it_around_a_step(home: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("CHANGED", raising=False)

    @step(cache=False)
    def change() -> str:
        seen = f"{os.getcwd()} {os.environ.get('CHANGED')}"
        os.chdir("/")
        os.environ["CHANGED"] = "by the step"
        return seen

    @pipeline(dynamic=True)
    def moves() -> str:
        os.chdir(tmp_path)
        monkeypatch.setenv("CHANGED", "by the pipeline")
        seen = change()
        assert (os.getcwd(), os.environ["CHANGED"]) == (str(tmp_path), "by the pipeline")
        return seen

    assert moves().output.load() == f"{tmp_path} by the pipeline"


def test_a_dynamic_pipeline_in_a_static_one_is_refused(home: Path) -> None:
    @pipeline(dynamic=True)
    def inner() -> int:
        return start()

    @pipeline
    def outer() -> int:
        return inner.inline()

    with pytest.raises(CompileError, match="pipeline 'inner' is dynamic, but 'outer', which calls it, is static"):
        outer()


def test_what_the_function_prints_is_in_the_log_of_the_run_and_of_no_step(home: Path) -> None:
    @step(cache=False)
    def says() -> int:
        print("from the step")
        return 1

    @pipeline(dynamic=True)
    def talks() -> None:
        print("before")
        says()
        print("after")

    run = talks()
    assert str(run.logs()).split("\n")[:3] == ["before", "from the step", "after"]
    assert str(run.steps["says"].logs()).strip() == "from the step"


def test_constants_and_containers_of_outputs_are_returned_as_they_are(home: Path) -> None:
    @pipeline(dynamic=True)
    def mixed() -> dict:
        return {"a": 1, "b": start(2)}

    assert mixed().output.load() == {"a": 1, "b": 2}


def test_an_exit_in_the_function_fails_the_run(home: Path) -> None:
    @pipeline(dynamic=True)
    def exits() -> None:
        start()
        raise SystemExit(3)

    with pytest.raises(RunFailed, match="failed in its pipeline function: SystemExit: 3"):
        exits()


def test_a_step_is_mapped_over_what_is_there_by_now(home: Path) -> None:
    @step
    def numbers(n: int) -> list[int]:
        return list(range(n))

    @step
    def add(x: int, y: int) -> int:
        return x + y

    seen = []

    @pipeline(dynamic=True)
    def spread() -> int:
        doubled = double.map(numbers(4))
        seen.append(value(doubled))
        seen.append(doubled.load())
        summed = add.map(doubled, y=unmapped(start(100)))
        seen.append([future.load() for future in summed])
        seen.append(value(add.product([1, 2], y=[10, 20])))
        seen.append(value(double.map([])))
        low, high = halves.map([3, 4])
        seen.append((value(low), value(high)))
        return total(summed)

    run = spread()
    assert seen == [
        [0, 2, 4, 6],
        [0, 2, 4, 6],
        [100, 102, 104, 106],
        [11, 21, 12, 22],
        [],
        ([1, 2], [2, 2]),
    ]
    assert run.output.load() == 412
    assert [name for name in run.steps if name.startswith("double")] == [f"double[{i}]" for i in range(4)]
    assert run.steps["double[3]"].output.load() == 6
    assert run.steps["double[3]"].inputs["x"].load() == 3
    assert set(statuses(spread()).values()) == {"cached"}


def test_failures_of_mapped_calls_can_be_left_out(home: Path) -> None:
    @step(cache=False)
    def odd(x: int) -> int:
        if x % 2 == 0:
            raise ValueError(f"{x} is even")
        return x

    @pipeline(dynamic=True)
    def lenient() -> int:
        return total(odd.map(range(6)).collect(allow_failures=True))

    run = lenient()
    assert (str(run.status), run.output.load()) == ("completed", 1 + 3 + 5)

    @pipeline(dynamic=True)
    def strict() -> int:
        return total(odd.map(range(6)))

    with pytest.raises(RunFailed, match=r"failed in step 'odd\[[024]\]': ValueError: [024] is even"):
        strict()


def test_unequal_lengths_and_single_values_are_refused_by_map(home: Path) -> None:
    @pipeline(dynamic=True)
    def unequal() -> None:
        total.map([[1], [2]], [3])  # type: ignore[call-arg]

    with pytest.raises(RunFailed, match="total"):
        unequal()

    @pipeline(dynamic=True)
    def single() -> None:
        double.map(start(3))  # type: ignore[arg-type]

    with pytest.raises(RunFailed, match="no list of items"):
        single()
