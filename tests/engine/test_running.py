"""Runs from a call to their record: statuses, failures, retries, hooks, context helpers, caching in one process."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sqlite3
import threading
import time
import traceback
from pathlib import Path
from typing import Annotated, NamedTuple

import pytest

import cupola
from cupola import (
    CachePolicy,
    Client,
    ConfigError,
    MaterializerError,
    Retry,
    RunFailed,
    get_step_context,
    pipeline,
    step,
)
from cupola.stores.sql import SqlStore

IN_PROCESS = {"local": {"workers": 0}}


def statuses(run: cupola.Run) -> dict[str, str]:
    return {name: str(one.status) for name, one in run.steps.items()}


def failed_run(call: object) -> cupola.Run:
    with pytest.raises(RunFailed) as caught:
        call()  # type: ignore[operator]
    return caught.value.run


@step
def one() -> int:
    return 1


@step
def add(x: int, y: int = 2) -> int:
    return x + y


@step(cache=False)
def fail(x: int = 0) -> int:
    raise ValueError(f"no luck with {x}")


@pytest.mark.feature("CORE-04")
def test_a_pipeline_runs_and_is_recorded(home: Path) -> None:
    @pipeline(tags=["nightly"])
    def sums(start: int = 5) -> int:
        return add(add(start), y=one())

    run = sums(start=7)
    assert str(run.status) == "completed"
    assert statuses(run) == {"add": "completed", "one": "completed", "add_2": "completed"}
    assert run.output.load() == 10
    assert run.params == {"start": 7}
    assert run.tags == ["nightly"]
    assert Client().runs.get(run.id).output.load() == 10
    assert run.steps["add_2"].inputs["y"].load() == 1


@pytest.mark.feature("CORE-07")
def test_the_second_run_is_cached_and_says_from_where(home: Path) -> None:
    @pipeline
    def chain() -> int:
        return add(add(one()))

    first, second = chain(), chain()
    assert set(statuses(second).values()) == {"cached"}
    assert second.output.load() == 5
    report = second.steps["add"].cache
    assert report.hit
    assert report.from_run == first.id
    assert not first.steps["add"].cache.hit
    assert first.steps["add"].cache.causes[0].kind == "first"


@pytest.mark.feature("CORE-04")
def test_a_failure_stops_later_steps_and_names_the_users_line(home: Path) -> None:
    @pipeline
    def bad() -> int:
        return add(fail(3))

    with pytest.raises(RunFailed) as caught:
        bad()
    run = caught.value.run
    assert statuses(run) == {"fail": "failed", "add": "skipped"}
    assert isinstance(caught.value.__cause__, ValueError)
    shown = "".join(traceback.format_exception(caught.value.__cause__))
    assert "no luck with 3" in shown
    assert f"src{os.sep}cupola" not in shown
    assert "test_running.py" in run.steps["fail"].error.where
    assert "cupola show" in str(caught.value)


@pytest.mark.feature("CORE-04")
def test_continue_runs_all_that_does_not_depend_on_the_failure(home: Path) -> None:
    @pipeline(on_error="continue")
    def mixed() -> None:
        add(fail())
        add(one())

    run = failed_run(mixed)
    assert statuses(run) == {"fail": "failed", "add": "skipped", "one": "completed", "add_2": "completed"}
    assert str(run.status) == "failed"


@pytest.mark.feature("CORE-04")
@pytest.mark.parametrize("mode", ["stop", "kill"])
def test_stop_and_kill_start_nothing_after_a_failure(home: Path, mode: str) -> None:
    @pipeline
    def mixed() -> None:
        fail()
        one()

    run = mixed.with_options(on_error=mode, raise_on_failure=False, settings=IN_PROCESS)()
    assert statuses(run) == {"fail": "failed", "one": "skipped"}


@pytest.mark.feature("CORE-04")
def test_retries_count_attempts_and_each_is_recorded(home: Path) -> None:
    tried: list[int] = []

    @step(cache=False, retry=Retry(attempts=3, delay=0.001))
    def flaky() -> int:
        tried.append(get_step_context().attempt)
        if len(tried) < 3:
            raise ConnectionError("weather")
        assert get_step_context().is_retry
        return len(tried)

    @pipeline
    def p() -> int:
        return flaky()

    run = p()
    assert run.output.load() == 3
    assert tried == [1, 2, 3]
    attempts = run.steps["flaky"].attempts
    assert [attempt.number for attempt in attempts] == [1, 2, 3]
    assert "weather" in str(attempts[0].error)
    assert attempts[2].error is None


@pytest.mark.feature("CORE-04")
def test_a_retry_is_limited_to_named_exceptions(home: Path) -> None:
    @step(cache=False, retry=Retry(attempts=3, delay=0.001, on=(ConnectionError,)))
    def value() -> int:
        raise ValueError("a bug")

    @step(cache=False, retry=Retry(attempts=2, delay=0.001, on=(ConnectionError,)))
    def reset() -> int:
        raise ConnectionResetError("weather")

    @pipeline(on_error="continue")
    def p() -> None:
        value()
        reset()

    run = failed_run(p)
    assert len(run.steps["value"].attempts) == 1
    assert len(run.steps["reset"].attempts) == 2


@pytest.mark.feature("CORE-04")
def test_hooks_fire_once_and_get_the_record(home: Path) -> None:
    seen: list[tuple[str, str]] = []

    def note(word: str):
        return lambda record: seen.append((word, str(record.status)))

    @step(
        cache=False,
        retry=Retry(attempts=2, delay=0.001),
        on_start=note("s-start"),
        on_failure=note("s-fail"),
        on_end=note("s-end"),
    )
    def bad() -> int:
        raise OSError("no")

    @pipeline(on_start=note("r-start"), on_failure=note("r-fail"), on_end=note("r-end"))
    def p() -> None:
        bad()

    failed_run(p)
    assert seen == [
        ("r-start", "running"), ("s-start", "running"), ("s-fail", "failed"), ("s-end", "failed"),
        ("r-fail", "failed"), ("r-end", "failed"),
    ]  # fmt: skip


@pytest.mark.feature("CORE-04")
def test_a_failing_hook_is_logged_and_changes_nothing(home: Path) -> None:
    def broken(record: object) -> None:
        raise KeyError("hook-trouble")

    @step(cache=False, on_success=broken)
    def good() -> int:
        return 7

    @pipeline(on_success=broken)
    def p() -> int:
        return good()

    run = p()
    assert run.output.load() == 7
    assert "hook-trouble" in str(run.logs(step="good"))


@pytest.mark.feature("CORE-04")
def test_metadata_metrics_tags_and_artifacts_travel_with_the_step(home: Path) -> None:
    @step(cache=False)
    def train() -> Annotated[float, "loss"]:
        cupola.log_metadata({"up": math.inf, "name": "ü"})
        cupola.log_metadata({"rows": 3}, target="loss")
        for loss in (0.5, 0.25):
            cupola.log_metrics({"loss": loss})
        cupola.add_tags("good", "kept")
        cupola.remove_tags("kept")
        cupola.save_artifact([1, 2], "numbers", tags=["t"])
        assert cupola.load_artifact("numbers") == [1, 2]
        return 0.25

    @pipeline
    def p() -> float:
        return train()

    run = p()
    one_step = run.steps["train"]
    assert one_step.metadata["up"] == math.inf
    assert one_step.metadata["loss"] == 0.25
    assert one_step.metrics["loss"] == [(0.0, 0.5), (1.0, 0.25)]
    assert one_step.tags == ["good"]
    assert one_step.outputs["loss"].metadata["rows"] == 3
    assert cupola.load_artifact("numbers") == [1, 2]
    assert Client().artifacts.get("numbers").tags == ["t"]


@pytest.mark.feature("CORE-04")
def test_artifacts_can_be_saved_outside_of_a_step(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cupola.save_artifact({"a": 1}, "outside")
    cupola.save_artifact({"a": 2}, "outside")
    assert cupola.load_artifact("outside") == {"a": 2}
    assert cupola.load_artifact("outside", version=1) == {"a": 1}
    assert capfd.readouterr().err == ""


@pytest.mark.feature("CORE-04")
def test_outside_of_a_step_the_context_says_what_to_do() -> None:
    with pytest.raises(cupola.CupolaError, match="outside of a step"):
        get_step_context()


@pytest.mark.feature("CORE-02")
def test_named_tuples_and_tuples_are_several_outputs(home: Path) -> None:
    class Parts(NamedTuple):
        head: int
        tail: list[int]

    @step
    def split(xs: list[int]) -> Parts:
        return Parts(xs[0], xs[1:])

    @step
    def pair() -> tuple[Annotated[int, "a"], Annotated[str, "b"]]:
        return 1, "b"

    @pipeline
    def p() -> tuple[Annotated[int, "x"], Annotated[int, "y"]]:
        parts = split([1, 2, 3])
        a, _b = pair()
        return parts.head, add(a, y=parts[0])

    run = p()
    assert run.steps["split"].outputs["tail"].load() == [2, 3]
    assert run.outputs["x"].load() == 1
    assert run.outputs["y"].load() == 2


@pytest.mark.feature("CORE-12")
def test_a_wrong_number_of_outputs_fails_the_step_with_both_numbers(home: Path) -> None:
    @step
    def two() -> tuple[int, int]:
        return (1, 2, 3)  # type: ignore[return-value]

    @pipeline
    def p() -> None:
        two()

    run = failed_run(p)
    assert "returned 3 values" in str(run.steps["two"].error)
    assert "2 outputs" in str(run.steps["two"].error)


@pytest.mark.feature("CORE-12")
def test_an_output_of_another_type_than_annotated_fails_the_step(home: Path) -> None:
    @step
    def text() -> int:
        return "five"  # type: ignore[return-value]

    @pipeline
    def p() -> None:
        text()

    run = failed_run(p)
    assert "returned str" in str(run.steps["text"].error)
    assert "int" in str(run.steps["text"].error)


@pytest.mark.feature("CORE-12")
def test_what_has_no_materializer_fails_the_step_with_three_ways_out(home: Path) -> None:
    @step
    def lock() -> dict:
        return {"guard": threading.Lock()}

    @pipeline
    def p() -> None:
        lock()

    with pytest.raises(RunFailed) as caught:
        p()
    assert isinstance(caught.value.__cause__, MaterializerError)
    assert "guard" in str(caught.value.__cause__)
    assert "pickle" in str(caught.value.__cause__)


@pytest.mark.feature("CORE-02")
@pytest.mark.parametrize("name", ["resources", "image", "secrets", "requirements", "model", "orchestrator"])
def test_options_of_later_versions_are_kept_and_refused_at_a_run(home: Path, name: str) -> None:
    given = {
        "resources": cupola.Resources(cpu=2),
        "image": cupola.Image(base="python:3.12"),
        "secrets": {"TOKEN": "{{hub.token}}"},
        "requirements": ["pandas"],
        "model": cupola.Model("churn"),
        "orchestrator": "slurm",
    }[name]
    configured = one.with_options(**{name: given})

    @pipeline
    def p() -> None:
        configured()

    assert p.compile().options[0] != p.with_options(cache=False).compile().options[0]
    with pytest.raises(ConfigError, match=f"{name}="):
        p()
    assert Client().runs.list() == []


@pytest.mark.feature("CORE-02")
def test_a_timeout_stops_the_step_and_says_its_limit(home: Path) -> None:
    @step(cache=False, timeout=0.2)
    def sleepy() -> int:
        time.sleep(30)
        return 1

    @pipeline
    def p() -> None:
        sleepy()

    began = time.monotonic()
    run = failed_run(p)
    assert time.monotonic() - began < 10
    assert "timeout of 0.2 s" in str(run.steps["sleepy"].error)


@pytest.mark.feature("CORE-02")
def test_outside_of_the_main_thread_a_timeout_is_a_warning_without_a_worker(home: Path) -> None:
    @step(cache=False, timeout=5)
    def quick() -> int:
        return 1

    @pipeline(settings=IN_PROCESS)
    def p() -> int:
        return quick()

    runs: list[cupola.Run] = []
    thread = threading.Thread(target=lambda: runs.append(p()))
    thread.start()
    thread.join(30)
    run = Client().runs.get(runs[0].id)
    assert "timeout=5 s could not be held" in run.steps["quick"].warnings[0]


@pytest.mark.feature("CORE-02")
def test_async_steps_run(home: Path) -> None:
    @step
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    @pipeline
    def p() -> int:
        return later(1)

    assert p().output.load() == 2


@pytest.mark.feature("CORE-04")
def test_what_a_step_changes_of_the_process_is_put_back(home: Path, tmp_path: Path) -> None:
    @step(cache=False, env={"GIVEN": "yes"})
    def rude() -> str:
        seen = os.environ["GIVEN"]
        os.environ["LEFT"] = "behind"
        os.environ.pop("HOME", None)
        os.chdir("/")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return seen

    @pipeline
    def p() -> str:
        return rude()

    before = dict(os.environ), os.getcwd(), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert p().output.load() == "yes"
    assert (dict(os.environ), os.getcwd(), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.feature("CORE-04")
def test_steps_may_exit_without_ending_the_program(home: Path) -> None:
    @step(cache=False)
    def leave() -> int:
        raise SystemExit(3)

    @pipeline
    def p() -> None:
        leave()

    run = failed_run(p)
    assert "SystemExit" in str(run.steps["leave"].error)


@pytest.mark.feature("CORE-04")
def test_consumers_never_share_a_mutable_object(home: Path) -> None:
    @step
    def make() -> list[int]:
        return [1]

    @step(cache=False)
    def grow(xs: list[int]) -> list[int]:
        xs.append(2)
        return xs

    @pipeline
    def p() -> None:
        made = make()
        grow(made)
        grow(made)

    run = p()
    assert run.steps["grow"].output.load() == run.steps["grow_2"].output.load() == [1, 2]
    assert run.steps["make"].output.load() == [1]


@pytest.mark.feature("CORE-02")
def test_lists_and_dicts_of_outputs_are_inputs(home: Path) -> None:
    @step
    def total(xs: list[int], named: dict[str, int]) -> int:
        return sum(xs) + sum(named.values())

    @pipeline
    def p() -> int:
        first = one()
        return total([first, 5, add(first)], {"a": first, "b": 10})

    assert p().output.load() == 1 + 5 + 3 + 1 + 10
    assert set(statuses(p()).values()) == {"cached"}


@pytest.mark.feature("CORE-02")
def test_pipelines_nest_and_prefix_their_steps(home: Path) -> None:
    @pipeline(cache=False)
    def prepare(x: int) -> int:
        return add(x)

    @pipeline
    def outer() -> int:
        return add(prepare(one()), y=prepare.inline(3))

    run = outer()
    assert list(run.steps) == ["one", "prepare/add", "prepare_2/add", "add"]
    assert run.output.load() == 3 + 5
    assert statuses(outer()) == {
        "one": "cached",
        "prepare/add": "completed",
        "prepare_2/add": "completed",
        "add": "cached",
    }


@pytest.mark.feature("CORE-02")
def test_steps_are_plain_functions_outside_and_inside_other_steps(home: Path) -> None:
    @step
    def outer_step() -> int:
        return add(1, y=1)

    assert add(1) == 3
    assert outer_step() == 2
    run = outer_step.run()
    assert run.steps["outer_step"].output.load() == 2
    assert add.run(1, y=5).output.load() == 6


@pytest.mark.feature("CORE-07")
def test_policies_decide_what_is_read_and_written(home: Path) -> None:
    @step(cache=CachePolicy(write=False))
    def reads_only() -> int:
        return 1

    @step(cache=CachePolicy(ignore=["note"]))
    def ignores(x: int, note: str) -> int:
        return x

    @pipeline
    def p(note: str = "a") -> None:
        reads_only()
        ignores(1, note)

    p()
    run = p(note="b")
    assert statuses(run) == {"reads_only": "completed", "ignores": "cached"}


@pytest.mark.feature("CORE-07")
def test_verify_runs_a_hit_again_and_reports_a_difference(home: Path) -> None:
    count: list[int] = []

    @step(cache=CachePolicy(verify=1.0, code=False))
    def unsteady() -> int:
        count.append(1)
        return len(count)

    @pipeline
    def p() -> int:
        return unsteady()

    p()
    run = p()
    assert len(count) == 2
    assert "isn't deterministic" in run.steps["unsteady"].warnings[0]


@pytest.mark.feature("CORE-02")
def test_a_step_without_a_result_can_be_waited_for(home: Path) -> None:
    order: list[str] = []

    @step(cache=False)
    def first() -> None:
        order.append("first")

    @step(cache=False)
    def second() -> int:
        order.append("second")
        return 2

    @pipeline
    def p() -> int:
        return second.after(first())()

    assert p().output.load() == 2
    assert order == ["first", "second"]


@pytest.mark.feature("CORE-07")
def test_a_cached_run_asks_the_cache_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @pipeline
    def chain() -> int:
        value = one()
        for _ in range(30):
            value = add(value)
        return value

    chain()
    asked: list[str] = []
    ask = SqlStore.ask

    def counted(store: SqlStore, question: object, **options: object) -> object:
        asked.append(type(question).__name__)
        return ask(store, question, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(SqlStore, "ask", counted)
    run = chain()
    assert [name for name in asked if "Cached" in name or "Inputs" in name] == ["FindCached"]
    assert set(statuses(run).values()) == {"cached"}


@pytest.mark.feature("CORE-03")
def test_the_store_is_brought_up_to_date_while_steps_run(home: Path) -> None:
    seen: list[int] = []

    @step(cache=False)
    def look(x: int) -> int:
        # Straight from the database, without the reader's look into journals.
        with sqlite3.connect(home / "cupola.db") as db:
            seen.append(db.execute("SELECT count(*) FROM step WHERE status = 'completed'").fetchone()[0])
        time.sleep(0.03)
        return x

    @pipeline
    def p() -> int:
        value = 1
        for _ in range(8):
            value = look(value)
        return value

    p()
    # Each step takes 30 ms, and the store may be 50 ms behind.
    assert all(number >= place - 3 for place, number in enumerate(seen)), seen
