"""Runs of mapped steps: children, their order, failures, cache entries, logs, and how they are recorded and shown."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest

from cupola import (
    ArtifactConfig,
    Client,
    File,
    Retry,
    Run,
    RunCancelled,
    RunFailed,
    log_metadata,
    pipeline,
    step,
    unmapped,
)

pytestmark = pytest.mark.feature("ENG-03")


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    # Steps of these tests note in lists of the test what they did; test_workers.py maps in workers.
    monkeypatch.setenv("CUPOLA_WORKERS", "0")


def statuses(run: Run) -> dict[str, str]:
    return {name: str(one.status) for name, one in run.steps.items()}


def value(run: Run, name: str) -> Any:
    return run.steps[name].output.load()


def failed_run(call: Callable[[], Run]) -> Run:
    with pytest.raises(RunFailed) as caught:
        call()
    return caught.value.run  # type: ignore[no-any-return]


@step(cache=False)
def numbers(count: int = 3) -> list[int]:
    return list(range(count))


@step(cache=False)
def inc(x: int, by: int = 1) -> int:
    return x + by


@step(cache=False)
def double(x: int) -> int:
    return x * 2


@step(cache=False)
def gather(xs: list[int]) -> list[int]:
    return xs


@step(cache=False)
def odd(x: int) -> int:
    print(f"looking at {x}")
    if x % 2 == 0:
        raise ValueError(f"{x} is not odd")
    return x


def test_children_are_steps_of_their_own():
    @pipeline
    def mapped() -> list[int]:
        return gather(inc.map(numbers()))

    run = mapped()
    assert run.output.load() == [1, 2, 3]
    assert list(run.steps) == ["numbers", "inc", "inc[0]", "inc[1]", "inc[2]", "gather"]
    assert set(statuses(run).values()) == {"completed"}
    assert run.record.steps == {"completed": 6}
    assert value(run, "inc[1]") == 2
    assert run.steps["inc[1]"].inputs["x"].load() == 1
    assert run.steps["inc[1]"].inputs["by"].load() == 1
    assert run.steps["inc"].output.load() == [1, 2, 3]
    assert run.steps["inc"].inputs["x"].load() == [0, 1, 2]
    assert run.steps["gather"].inputs["xs"].load() == [1, 2, 3]


def test_a_map_without_a_gather_and_steps_without_outputs_work():
    @step(cache=False)
    def push(name: str) -> None:
        if name == "b":
            raise RuntimeError("not b")

    @pipeline(on_error="continue")
    def pushes() -> None:
        push.map(["a", "b", "c"])

    run = failed_run(pushes)
    assert statuses(run) == {"push": "failed", "push[0]": "completed", "push[1]": "failed", "push[2]": "completed"}
    assert "1 of 3 children failed, first push[1]: RuntimeError: not b" in str(run.steps["push"].error)


def test_nothing_to_map_completes_with_nothing():
    @pipeline
    def empty(count: int = 0) -> list[int]:
        total = gather(double.map(inc.map(numbers(count))).collect())
        gather.named("literal")(inc.map([]))
        return total

    run = empty()
    assert (str(run.status), run.output.load()) == ("completed", [])
    assert value(run, "literal") == []
    assert value(run, "inc") == []
    assert list(run.steps) == ["numbers", "inc", "double", "gather", "inc_2", "literal"]


def test_what_follows_on_a_child_does_not_wait_for_the_others():
    order: list[str] = []

    @step(cache=False)
    def first(x: int) -> int:
        order.append(f"first {x}")
        return x

    @step(cache=False)
    def second(x: int) -> int:
        order.append(f"second {x}")
        return x

    @pipeline
    def chain() -> list[int]:
        return second.map(first.map([0, 1, 2]))  # type: ignore[return-value]

    assert chain().output.load() == [0, 1, 2]
    assert order == ["first 0", "second 0", "first 1", "second 1", "first 2", "second 2"]


def test_chains_of_different_length_meet_right():
    @step(cache=False)
    def pair(a: int, b: int, c: int) -> tuple[Annotated[int, "sum"], Annotated[str, "text"]]:
        return a + b + c, f"{a}{b}{c}"

    @pipeline
    def meets() -> None:
        short = inc.map([0, 1, 2])
        long = double.map(inc.map(short))
        sums, _texts = pair.map(short, long, numbers())
        gather(sums)
        gather.named("single")(pair.map([1], [2], unmapped(3))[0])

    run = meets()
    assert value(run, "gather") == [1 + 4 + 0, 2 + 6 + 1, 3 + 8 + 2]
    assert run.steps["pair"].outputs["text"].load() == ["140", "261", "382"]
    assert value(run, "single") == [6]


def test_products_and_lists_of_maps():
    @step(cache=False)
    def total(xs: list[int]) -> int:
        return sum(xs)

    @step(cache=False)
    def times(a: int, b: int) -> int:
        return a * b

    @pipeline
    def nested() -> None:
        gather(times.product(a=[1, 2, 3], b=[10, 20]))
        gather(total.map([inc.map(row) for row in [[1, 2, 3], [4], []]]))
        gather(total.map([[1, inc(1)], [2]]))
        gather(times.product(numbers(2), inc.map([1, 2])))

    run = nested()
    assert value(run, "gather") == [10, 20, 20, 40, 30, 60]
    assert value(run, "gather_2") == [9, 5, 0]
    assert value(run, "gather_3") == [3, 2]
    assert value(run, "gather_4") == [0, 0, 2, 3]
    assert run.steps["times[5]"].inputs["a"].load() == 3
    assert run.steps["times[5]"].inputs["b"].load() == 20


def test_sets_and_tuples_that_steps_make_are_spread_in_a_fixed_order():
    @step(cache=False)
    def letters() -> set[str]:
        return {"b", "a", "c"}

    @step(cache=False)
    def some() -> tuple[int, ...]:
        return (3, 1, 2)

    @step(cache=False)
    def same(x: Any) -> Any:
        return x

    @pipeline
    def spread() -> None:
        same.map(letters())
        same.map(some())

    run = spread()
    assert value(run, "same") == ["a", "b", "c"]
    assert value(run, "same_2") == [3, 1, 2]


@pytest.mark.parametrize("made", ["abc", {"a": 1}, b"ab", 5, None])
def test_a_value_that_is_no_list_fails_the_mapped_step_and_names_unmapped(made):
    @step(cache=False)
    def make() -> Any:
        return made

    @pipeline
    def wrong() -> None:
        gather(inc.map(make()))

    run = failed_run(wrong)
    assert statuses(run) == {"make": "completed", "inc": "failed", "gather": "skipped"}
    assert "unmapped" in str(run.steps["inc"].error) + str(run.error)


def test_unequal_lengths_known_only_when_running_are_refused_with_both():
    @pipeline
    def uneven() -> None:
        inc.map(numbers(2), by=numbers(3))

    run = failed_run(uneven)
    assert "x has 2, by has 3" in str(run.error)
    assert "'inc'" in str(run.error)


def test_one_child_that_fails_ends_the_run_and_the_rest_is_skipped():
    @pipeline
    def stops() -> None:
        gather(odd.map([1, 2, 3]))

    run = failed_run(stops)
    assert statuses(run) == {
        "odd": "failed", "odd[0]": "completed", "odd[1]": "failed", "odd[2]": "skipped", "gather": "skipped",
    }  # fmt: skip
    assert run.record.failed_step == 3


def test_with_on_error_continue_all_children_run_and_the_gather_is_skipped():
    @pipeline(on_error="continue")
    def goes_on() -> None:
        gather(double.map(odd.map([1, 2, 3])))

    found = statuses(failed_run(goes_on))
    assert (found["odd[2]"], found["double[0]"], found["double[1]"], found["double[2]"]) == (
        "completed", "completed", "skipped", "completed",
    )  # fmt: skip
    assert (found["odd"], found["double"], found["gather"]) == ("failed", "failed", "skipped")


def test_failed_children_are_left_out_where_that_is_allowed():
    @pipeline
    def tolerant() -> list[int]:
        return gather(odd.map([1, 2, 3, 4, 5]).collect(allow_failures=True))

    run = tolerant()
    assert run.output.load() == [1, 3, 5]
    assert str(run.status) == "completed"
    assert Counter(statuses(run).values()) == {"completed": 5, "failed": 2}
    assert run.steps["odd"].warnings == ["2 of 5 children failed or never ran, and are left out"]
    assert run.steps["odd"].output.load() == [1, 3, 5]


def test_failures_are_allowed_all_along_a_chain_of_maps():
    @pipeline
    def chain() -> list[int]:
        return gather(double.map(odd.map([1, 2, 3])).collect(allow_failures=True))

    run = chain()
    assert run.output.load() == [2, 6]
    assert statuses(run)["double[1]"] == "skipped"


def test_a_map_over_what_is_left_takes_only_that():
    @pipeline
    def again() -> list[int]:
        left = odd.map([1, 2, 3]).collect(allow_failures=True)
        return gather(inc.map(left, by=unmapped(10)))

    run = again()
    assert run.output.load() == [11, 13]
    assert [name for name in run.steps if name.startswith("inc")] == ["inc", "inc[0]", "inc[1]"]
    assert run.steps["inc[1]"].inputs["x"].load() == 3


def test_each_child_has_its_own_attempts():
    tried: Counter[int] = Counter()

    @step(cache=False, retry=Retry(attempts=3, delay=0))
    def flaky(x: int) -> int:
        tried[x] += 1
        if tried[x] <= x:
            raise OSError("not yet")
        return x

    @pipeline
    def retried() -> list[int]:
        return flaky.map([0, 1, 2])  # type: ignore[return-value]

    run = retried()
    assert run.output.load() == [0, 1, 2]
    assert [len(run.steps[f"flaky[{number}]"].attempts) for number in range(3)] == [1, 2, 3]


def test_hooks_are_called_for_each_child_with_its_own_name():
    seen: list[str] = []

    @step(cache=False, on_failure=lambda one: seen.append(f"{one.name} {one.status}"))
    def picky(x: int) -> int:
        if x == 1:
            raise ValueError("not 1")
        return x

    @pipeline(on_error="continue")
    def hooked() -> None:
        picky.map([0, 1, 2])

    failed_run(hooked)
    assert seen == ["picky[1] failed"]


def test_each_child_has_its_own_log_and_the_mapped_step_has_them_all():
    @pipeline(on_error="continue")
    def logged() -> None:
        odd.map([1, 2, 3])

    run = failed_run(logged)
    assert str(run.logs(step="odd[2]")) == "looking at 3"
    assert str(run.logs(step="odd")) == "looking at 1\nlooking at 2\nlooking at 3"


def test_each_child_has_a_cache_entry_of_its_own():
    ran: list[int] = []

    @step
    def cached(x: int, by: int = 1) -> int:
        ran.append(x)
        return x + by

    @pipeline
    def entries(values: list[int], by: int = 1) -> list[int]:
        return cached.map(values, by=unmapped(by))  # type: ignore[return-value]

    entries([1, 2, 3])
    run = entries([3, 4, 1])
    assert run.output.load() == [4, 5, 2]
    assert ran == [1, 2, 3, 4]
    assert statuses(run) == {
        "cached": "completed",
        "cached[0]": "cached",
        "cached[1]": "completed",
        "cached[2]": "cached",
    }
    entries([3], by=2)
    assert ran == [1, 2, 3, 4, 3]


def test_children_of_lists_that_steps_make_have_entries_by_value():
    ran: list[int] = []

    @step
    def listed(values: list[int]) -> list[int]:
        return values

    @step
    def used(x: int, others: list[int]) -> int:
        ran.append(x)
        return x + sum(others)

    @pipeline
    def entries(values: list[int], others: list[int]) -> None:
        used.map(listed(values), others=unmapped(listed(others)))

    entries([1, 2], [5])
    entries([2, 1, 7], [5])
    assert ran == [1, 2, 7]
    entries([1], [6])
    assert ran == [1, 2, 7, 1]


def test_items_with_outputs_inside_count_what_stands_beside_them():
    ran: list[list[int]] = []

    @step
    def base() -> int:
        return 1

    @step
    def summed(xs: list[int]) -> int:
        ran.append(xs)
        return sum(xs)

    @pipeline
    def lists(extra: int) -> None:
        one = base()
        summed.map([[one, extra], [extra, one], [one]])

    lists(5)
    lists(5)
    assert ran == [[1, 5], [5, 1], [1]]
    lists(6)
    assert ran == [[1, 5], [5, 1], [1], [1, 6], [6, 1]]


def test_a_file_among_the_items_counts_for_its_own_child_only(tmp_path, run_python):
    (tmp_path / "files.py").write_text(
        "import sys\nfrom cupola import File, pipeline, step\n"
        "@step\ndef read(file: File) -> str:\n    print('reading', file.name)\n    return file.path.read_text()\n"
        "@pipeline\ndef reads():\n    return read.map([File('a.txt'), File('b.txt')])\n"
        "if __name__ == '__main__':\n    run = reads()\n"
        "    print([str(one.status) for name, one in run.steps.items() if '[' in name], run.output.load())\n"
    )
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    assert "['completed', 'completed'] ['a.txt', 'b.txt']" in run_python("files.py").stdout
    (tmp_path / "b.txt").write_text("new")
    done = run_python("files.py")
    assert "['cached', 'completed'] ['a.txt', 'new']" in done.stdout, done.stderr


def test_children_log_metadata_and_tags_of_their_own():
    @step(cache=False)
    def noted(x: int) -> int:
        log_metadata({"x": x})
        return x

    @pipeline
    def notes() -> None:
        noted.map([5, 6])

    run = notes()
    assert run.steps["noted[1]"].metadata == {"x": 6}
    assert [one.name for one in Client().steps.list(metadata="x>5")] == ["noted[1]"]
    assert Client().steps.get(f"{run.name}/noted[1]").metadata == {"x": 6}


def test_a_run_of_mapped_steps_is_shown_in_few_lines():
    @pipeline(on_error="continue")
    def shown() -> None:
        gather(odd.map(list(range(50))))

    run = failed_run(shown)
    text = str(run)
    assert "50 children: 25 completed, 25 failed" in text
    assert "  odd[0]" in text
    assert "and 15 more" in text
    assert len(text.splitlines()) < 40
    assert "50 children: 25 completed, 25 failed" in str(run.steps["odd"])
    assert "0 is not odd" in str(run.steps["odd[0]"])
    assert "output" in str(run.steps["odd[1]"])


def test_a_run_that_returns_what_its_children_put_out_has_it_as_output():
    @pipeline
    def returned() -> tuple[Annotated[list[int], "all"], Annotated[list[int], "some"]]:
        return inc.map([1, 2]), odd.map([1, 2, 3]).collect(allow_failures=True)  # type: ignore[return-value]

    run = returned()
    assert run.outputs["all"].load() == [2, 3]
    assert run.outputs["some"].load() == [1, 3]


def test_the_command_line_shows_children(tmp_path, run_cupola):
    (tmp_path / "p.py").write_text(
        "from cupola import pipeline, step\n"
        "@step\ndef inc(x: int) -> int:\n    print('child', x)\n    return x + 1\n"
        "@pipeline\ndef p():\n    return inc.map([1, 2])\n"
    )
    done = run_cupola("run", "p.py")
    assert done.returncode == 0, done.stderr
    assert "2 children: 2 completed" in run_cupola("show", "last").stdout
    assert "inc[1] completed" in run_cupola("show", "last", "inc[1]").stdout
    assert run_cupola("logs", "last", "inc[1]").stdout == "child 2\n"
    told = json.loads(run_cupola("show", "last", "--json").stdout)
    assert [one["name"] for one in told["steps"]] == ["inc", "inc[0]", "inc[1]"]
    missing = run_cupola("show", "last", "inc[7]")
    assert missing.returncode == 2
    assert "inc[7]" in missing.stderr


def test_a_rebuilt_database_has_the_children(run_cupola):
    @pipeline(on_error="continue")
    def rebuilt() -> None:
        gather(inc.map(odd.map([1, 2, 3])))

    run = failed_run(rebuilt)
    before = statuses(run)
    assert run_cupola("doctor", "store").returncode == 0
    done = run_cupola("doctor", "store", "--rebuild")
    assert done.returncode == 0, done.stderr
    again = Client().runs.get(run.id)
    assert statuses(again) == before
    assert again.record.steps == run.record.steps
    assert again.steps["inc[0]"].inputs["x"].load() == 1
    assert run_cupola("doctor", "store").returncode == 0


def test_a_deleted_run_leaves_nothing_of_its_children(run_cupola):
    @pipeline
    def deleted() -> None:
        inc.map([1, 2])

    run = deleted()
    Client().runs.delete(run.id)
    assert run_cupola("doctor", "store").returncode == 0
    assert Client().runs.list() == []


def test_a_step_that_hands_on_a_generator_is_told_to_return_a_list():
    @step(cache=False)
    def lazily() -> list[int]:
        return (number for number in range(3))  # type: ignore[return-value]

    @pipeline
    def lazy() -> None:
        gather(inc.map(lazily()))

    run = failed_run(lazy)
    assert "generator" in str(run.steps["lazily"].error)
    assert statuses(run) == {"lazily": "failed", "inc": "skipped", "gather": "skipped"}


# Going on with runs of mapped steps, and running them again.


@pytest.fixture
def seen(tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that notes that a step ran, and without a name returns what was noted."""
    path = tmp_path / "witness"
    path.touch()

    def note(name: str = "") -> list[str]:
        if name:
            with path.open("a") as file:
                file.write(f"{name}\n")
        return path.read_text().splitlines()

    return note


@pytest.fixture
def broken(tmp_path: Path) -> Callable[[], bool]:
    """Return a function that tells whether steps are to fail: no code of theirs changes when they no longer are."""
    path = tmp_path / "broken"
    path.touch()
    return path.exists


@pytest.fixture
def mend(tmp_path: Path) -> Callable[[], None]:
    """Return a function after which no step is to fail any more."""
    return (tmp_path / "broken").unlink


def test_a_resumed_run_goes_on_with_the_children_that_are_missing(seen, broken, mend):
    @step(cache=False)
    def find() -> list[int]:
        seen("find")
        return [10, 20, 30, 40]

    @step(cache=False)
    def first(x: int) -> int:
        seen(f"first {x}")
        if x == 30 and broken():
            raise ValueError("not yet")
        return x

    @step(cache=False)
    def second(x: int) -> int:
        seen(f"second {x}")
        return x + 1

    @pipeline
    def resumed() -> list[int]:
        return gather(second.map(first.map(find())))

    run = failed_run(resumed)
    assert seen() == ["find", "first 10", "second 10", "first 20", "second 20", "first 30"]
    mend()
    again = run.resume()
    assert again.id == run.id
    assert again.output.load() == [11, 21, 31, 41]
    assert seen()[6:] == ["first 30", "second 30", "first 40", "second 40"]
    assert set(statuses(again).values()) == {"completed"}
    assert [len(again.steps[f"first[{number}]"].attempts) for number in range(4)] == [1, 1, 2, 1]
    assert len(again.steps["first"].attempts) == 2


def test_resuming_a_run_that_failed_before_its_map_expanded_runs_the_map(broken, mend):
    @step(cache=False)
    def find() -> list[int]:
        if broken():
            raise ValueError("not yet")
        return [1, 2]

    @pipeline
    def before() -> list[int]:
        return gather(inc.map(find()))

    run = failed_run(before)
    assert list(run.steps) == ["find", "inc", "gather"]
    mend()
    assert run.resume().output.load() == [2, 3]


def test_resuming_a_run_whose_map_could_not_be_spread_tries_again(broken, mend):
    @step(cache=False)
    def find() -> Any:
        return 5 if broken() else [1, 2]

    @pipeline
    def before() -> list[int]:
        return gather(inc.map(find()))

    run = failed_run(before)
    assert statuses(run)["inc"] == "failed"
    mend()
    with pytest.raises(RunFailed):
        run.resume()  # what `find` made stands: it is finished


def test_children_left_out_of_a_finished_map_stay_left_out_when_the_run_is_resumed(seen, run_cupola, broken, mend):
    @step(cache=False)
    def picky(x: int) -> int:
        seen(f"picky {x}")
        if x == 1:
            raise ValueError("never 1")
        return x

    @step(cache=False)
    def last(xs: list[int]) -> int:
        seen("last")
        if broken():
            raise ValueError("not yet")
        return sum(xs)

    @pipeline
    def left() -> int:
        return last(inc.map(picky.map([0, 1, 2])).collect(allow_failures=True))

    run = failed_run(left)
    mend()
    again = run.resume()
    assert again.output.load() == 4
    assert seen() == ["picky 0", "picky 1", "picky 2", "last", "last"]
    found = statuses(again)
    assert (found["picky[1]"], found["inc[1]"], found["picky"]) == ("failed", "skipped", "completed")
    assert run_cupola("doctor", "store").returncode == 0
    assert "could not be applied" not in run_cupola("doctor", "store").stdout
    assert run_cupola("doctor", "store", "--rebuild").returncode == 0
    assert statuses(Client().runs.get(run.id)) == found


LARGE = "x" * 10_000


def blobs_of(run: Run, name: str) -> list[str]:
    return [file.blob for file in run.steps[name].output.record.manifest.files]


def remove_blobs(home: Path, names: list[str]) -> None:
    assert names
    for name in names:
        digits = name.partition(":")[2]
        found = [path for path in (home / "blobs").rglob("*") if path.is_file() and digits[4:] in path.name]
        assert found, f"no file of {name}"
        for path in found:
            path.parent.chmod(0o755)
            path.unlink()


def test_a_child_whose_value_is_gone_is_not_finished(seen, home, broken, mend):
    @step(cache=False)
    def large(x: int) -> str:
        seen(f"large {x}")
        return LARGE + str(x)

    @step(cache=False)
    def last(xs: list[str]) -> int:
        if broken():
            raise ValueError("not yet")
        return len(xs)

    @pipeline
    def gone() -> int:
        return last(large.map([0, 1, 2]))

    run = failed_run(gone)
    remove_blobs(home, blobs_of(run, "large[1]"))
    mend()
    again = run.resume()
    assert again.output.load() == 3
    assert seen() == ["large 0", "large 1", "large 2", "large 1"]
    assert set(statuses(again).values()) == {"completed"}


def test_items_that_are_gone_are_taken_from_the_list_again(seen, home, broken, mend):
    @step(cache=False)
    def find() -> list[str]:
        seen("find")
        return [LARGE + "a", LARGE + "b"]

    @step(cache=False)
    def use(x: str) -> str:
        seen(f"use {x[-1]}")
        if broken() and x.endswith("b"):
            raise ValueError("not yet")
        return x[-1]

    @pipeline
    def items() -> list[str]:
        return use.map(find())  # type: ignore[return-value]

    run = failed_run(items)
    event = run.reader.expanded().item(1, "x[1]")
    remove_blobs(home, [file.blob for file in event.files])
    mend()
    again = run.resume()
    assert again.output.load() == ["a", "b"]
    assert seen() == ["find", "use a", "use b", "use b"]


def test_items_and_list_gone_make_the_list_again_and_say_so_when_it_is_another(seen, home, broken, mend):

    @step(cache=False)
    def find() -> list[str]:
        seen("find")
        return [LARGE + "a", LARGE + ("c" if seen().count("find") > 2 else "b")]

    @step(cache=False)
    def use(x: str) -> str:
        seen(f"use {x[-1]}")
        if broken() and not x.endswith("a"):
            raise ValueError("not yet")
        return x[-1]

    @pipeline
    def items() -> list[str]:
        return use.map(find())  # type: ignore[return-value]

    run = failed_run(items)
    item = run.reader.expanded().item(1, "x[1]")
    gone = [file.blob for file in item.files] + blobs_of(run, "find")
    remove_blobs(home, gone)
    with pytest.raises(RunFailed):
        run.resume()
    assert seen() == ["find", "use a", "use b", "find", "use b"]
    remove_blobs(home, gone)
    mend()
    with pytest.raises(RunFailed, match="another one now"):
        run.resume()


def test_a_rerun_takes_over_children_that_still_hold(seen):
    @step(cache=False)
    def first(x: int) -> int:
        seen(f"first {x}")
        return x

    @step(cache=False)
    def second(x: int, by: int) -> int:
        seen(f"second {x}")
        return x + by

    @step(cache=False)
    def last(xs: list[int]) -> int:
        seen("last")
        return sum(xs)

    @pipeline
    def rerun(by: int = 1) -> int:
        return last(second.map(first.map([1, 2]), by=unmapped(by)))

    run = rerun()
    assert len(seen()) == 5
    again = run.rerun(from_step="last")
    assert seen()[5:] == ["last"]
    assert statuses(again)["second[1]"] == "cached"
    assert again.rerun(params={"by": 5}).output.load() == 13
    assert seen()[6:] == ["second 1", "second 2", "last"]
    run.rerun(from_step="second")
    assert seen()[9:] == ["second 1", "second 2", "last"]


def test_a_rerun_of_a_failed_run_runs_the_children_that_failed(seen, broken, mend):
    @step(cache=False)
    def find() -> list[int]:
        seen("find")
        return [1, 2, 3]

    @step(cache=False)
    def first(x: int) -> int:
        seen(f"first {x}")
        if x == 2 and broken():
            raise ValueError("not yet")
        return x

    @step(cache=False)
    def second(x: int) -> int:
        seen(f"second {x}")
        return x

    @pipeline(on_error="continue")
    def failing() -> list[int]:
        return gather(second.map(first.map(find())))

    run = failed_run(failing)
    mend()
    before = len(seen())
    again = run.rerun()
    assert again.output.load() == [1, 2, 3]
    assert seen()[before:] == ["first 2", "second 2"]


def test_rerun_of_nothing_mapped_completes():
    @pipeline
    def nothing() -> list[int]:
        return gather(double.map(inc.map(numbers(0))).collect())

    again = nothing().rerun(from_step="gather")
    assert (str(again.status), value(again, "gather")) == ("completed", [])


def test_hooks_are_told_when_a_map_never_got_its_children():
    told: list[str] = []

    @step(cache=False)
    def make() -> Any:
        return 5

    @step(cache=False, on_failure=lambda one: told.append(f"{one.name} {one.status} {one.error.type}"))
    def use(x: int) -> int:
        return x

    @pipeline(on_failure=lambda run: told.append(f"run {run.status}"))
    def hooked() -> None:
        use.map(make())

    failed_run(hooked)
    assert told == ["use failed cupola.errors.CompileError", "run failed"]


# What would run, and why.


@step
def made(count: int) -> list[int]:
    return list(range(count))


@step
def scaled(x: int, by: int = 1) -> int:
    return x * by


@step
def summed(xs: list[int]) -> int:
    return sum(xs)


@pipeline
def planned(count: int = 3, by: int = 1) -> int:
    return summed(scaled.map(scaled.map(made(count), by=unmapped(by))))


def test_a_plan_says_where_it_is_not_known_yet_how_many_children_there_will_be():
    found = {one.name: one for one in planned.plan()}
    assert list(found) == ["made", "scaled", "scaled_2", "summed"]
    assert found["scaled"].children is None
    assert "known when" in found["scaled"].note
    assert planned.plan().why("scaled").causes[0].step == "made"


def test_a_plan_knows_the_children_of_lists_that_are_known():
    planned()
    found = planned.plan()
    assert {one.action for one in found} == {"cached"}
    assert [one.name for one in found][:3] == ["made", "scaled", "scaled[0]"]
    changed = planned.plan(by=2)
    actions = {one.name: one.action for one in changed}
    assert (actions["scaled"], actions["scaled[1]"], actions["scaled_2[1]"], actions["summed"]) == (
        "run", "run", "depends", "depends",
    )  # fmt: skip
    assert next(one for one in changed if one.name == "scaled").children == {"run": 3}
    causes = [(cause.kind, cause.name, cause.old, cause.new) for cause in changed.why("scaled[1]").causes]
    assert causes == [("parameter", "by", "1", "2")]
    assert [cause.step for cause in changed.why("scaled_2[1]").causes] == ["scaled[1]", "scaled[1]"]


def test_a_plan_runs_only_the_new_items_of_a_list_in_code():
    @pipeline
    def listed(values: list[int]) -> None:
        scaled.map(values)

    listed([1, 2])
    found = listed.plan([2, 1, 5])
    assert {one.name: one.action for one in found} == {
        "scaled": "run", "scaled[0]": "cached", "scaled[1]": "cached", "scaled[2]": "run",
    }  # fmt: skip
    assert found.why("scaled").causes == found.why("scaled[2]").causes


def test_a_list_that_cannot_be_taken_apart_is_said_by_the_plan():
    @pipeline
    def uneven(count: int) -> None:
        scaled.map(made(count), by=[1, 2])

    uneven(2)
    made.run(3)
    text = next(one.note for one in uneven.plan(3) if one.name == "scaled")
    assert "x has 3, by has 2" in text


def test_a_recorded_run_says_why_its_children_ran():
    planned()
    run = planned(by=2)
    report = run.steps["scaled[2]"].cache
    assert [(cause.kind, cause.name, cause.old, cause.new) for cause in report.causes] == [
        ("parameter", "by", "1", "2")
    ]
    assert report.from_run
    gathered = run.steps["summed"].cache.causes
    assert [cause.name for cause in gathered if cause.kind == "input"] == ["xs[1]", "xs[2]"]
    assert gathered[0].step == "scaled_2[1]"
    again = planned(by=2)
    assert again.steps["scaled"].cache.hit
    assert again.steps["scaled[2]"].cache.hit
    assert not run.steps["scaled"].cache.hit


def test_an_item_that_changed_is_told_as_the_parameter_that_it_is():
    @pipeline
    def items(values: list[int]) -> None:
        scaled.map(values)

    items([1, 2])
    causes = items([1, 3]).steps["scaled[1]"].cache.causes
    assert [(cause.kind, cause.name, cause.old, cause.new) for cause in causes] == [("parameter", "x", "2", "3")]


def test_many_items_that_changed_are_counted():
    @pipeline
    def many(by: int = 1) -> int:
        return summed(scaled.map(range(1, 50), by=unmapped(by)))

    many()
    causes = many(by=3).steps["summed"].cache.causes
    assert len(causes) < 25
    assert any(cause.new == "and 39 more of its items" for cause in causes)


def test_the_command_line_plans_children_in_one_line(tmp_path, run_cupola):
    (tmp_path / "p.py").write_text(
        "from cupola import pipeline, step\n@step\ndef inc(x: int) -> int:\n    return x + 1\n"
        "@pipeline\ndef p():\n    return inc.map([1, 2])\n"
    )
    done = run_cupola("plan", "p.py")
    assert "2 children: 2 run" in done.stdout
    assert "2 steps of p: 0 cached" in done.stderr
    told = json.loads(run_cupola("plan", "p.py", "--json").stdout)["steps"]
    assert [(one["name"], one["parent"], one["children"]) for one in told] == [
        ("inc", None, {"run": 2}), ("inc[0]", "inc", None), ("inc[1]", "inc", None),
    ]  # fmt: skip
    assert run_cupola("plan", "p.py", "--why", "inc[1]").stdout.startswith("inc[1]: would run")


# How it is drawn and read.


def test_a_mapped_step_is_one_node_with_its_width():
    @pipeline
    def drawn(count: int = 3) -> None:
        gather(double.map(inc.map(numbers(count))))
        gather(inc.product([1, 2], by=[1, 2, 3]))

    before = drawn.draw()
    assert "inc ×?" in before
    assert "double ×?" in before
    assert "inc_2 ×6" in before
    run = drawn()
    assert "✓ inc ×3" in run.draw()
    assert "✓ double ×3" in run.draw()
    assert "inc ×3" in run.draw("svg")
    assert "inc_2 ×6" in run.draw("mermaid")


def test_lineage_leads_from_a_child_to_the_list_it_was_taken_from():
    @pipeline
    def traced() -> list[int]:
        return gather(inc.map(numbers(2)))

    text = str(traced().output.lineage())
    assert "by inc[0]" in text
    assert "by numbers" in text
    assert "x ← traced/numbers/output:1" in text


def test_a_live_run_shows_its_children(tmp_path, run_cupola):
    (tmp_path / "p.py").write_text(
        "import pathlib, subprocess, sys\nfrom cupola import pipeline, step\n"
        "CUPOLA = pathlib.Path(sys.executable).with_name('cupola')\n"
        "@step(cache=False)\ndef inc(x: int) -> int:\n"
        "    print('child', x)\n"
        "    if x == 2:\n"
        "        for words in (['show', 'last'], ['logs', 'last', 'inc'], ['show', 'last', 'inc[1]']):\n"
        "            done = subprocess.run([CUPOLA, *words], capture_output=True, text=True)\n"
        "            print(words, done.returncode, done.stdout, done.stderr)\n"
        "    return x + 1\n"
        "@pipeline\ndef p():\n    return inc.map([0, 1, 2, 3])\n"
    )
    done = run_cupola("run", "p.py")
    assert done.returncode == 0, done.stderr
    assert "4 children: 1 pending, 1 running, 2 completed" in done.stdout
    assert "['logs', 'last', 'inc'] 0 child 0\nchild 1\nchild 2" in done.stdout
    assert "Step inc[1] completed" in done.stdout


class Odd:
    def __init__(self, number: int) -> None:
        self.number = number


def test_items_are_stored_and_loaded_as_what_they_are(tmp_path, monkeypatch):
    import numpy as np
    import pandas as pd

    monkeypatch.chdir(tmp_path)

    @step(cache=False)
    def frames() -> list[pd.DataFrame]:
        return [pd.DataFrame({"a": range(rows)}) for rows in (1, 2000)]

    @step(cache=False)
    def rows(frame: pd.DataFrame) -> int:
        return len(frame)

    @step(cache=False)
    def matrix() -> np.ndarray:
        return np.arange(6).reshape(3, 2)

    @step(cache=False)
    def total(row: np.ndarray) -> int:
        return int(row.sum())

    @step(cache=False)
    def files() -> list[File]:
        (tmp_path / "a.txt").write_text("abc")
        return [File(tmp_path / "a.txt")]

    @step(cache=False)
    def length(file: File) -> int:
        return len(file.path.read_text())

    @step(cache=False)
    def objects() -> Annotated[list[Odd], ArtifactConfig(materializer="pickle")]:
        return [Odd(1), Odd(2)]

    @step(cache=False)
    def number(odd: Annotated[Odd, ArtifactConfig(materializer="pickle")]) -> int:
        return odd.number

    @pipeline
    def kinds() -> None:
        rows.map(frames())
        total.map(matrix())
        length.map(files())
        number.map(objects())

    run = kinds()
    assert value(run, "rows") == [1, 2000]
    assert value(run, "total") == [1, 5, 9]
    assert value(run, "length") == [3]
    assert value(run, "number") == [1, 2]


def test_steps_that_are_asynchronous_or_overrun_are_children_as_others_are():
    @step(cache=False)
    async def later(x: int) -> int:
        return x + 1

    @step(cache=False, timeout=0.2)
    def slow(x: int) -> int:
        end = time.monotonic() + 30 * x
        while time.monotonic() < end:
            pass
        return x

    @pipeline(on_error="continue")
    def timed() -> None:
        gather(later.map([1, 2]))
        slow.map([0, 1])

    run = failed_run(timed)
    assert value(run, "gather") == [2, 3]
    assert (statuses(run)["slow[0]"], statuses(run)["slow[1]"]) == ("completed", "failed")
    assert "slow[1]" in str(run.steps["slow[1]"].error)


def test_a_run_that_is_stopped_in_a_child_is_cancelled_and_can_be_resumed(seen, tmp_path):
    @step(cache=False)
    def first(x: int) -> int:
        seen(f"first {x}")
        if x == 1 and not (tmp_path / "sent").exists():
            (tmp_path / "sent").touch()
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        return x

    @pipeline
    def stopped() -> list[int]:
        return gather(first.map([0, 1, 2]))

    with pytest.raises(RunCancelled) as caught:
        stopped()
    run = caught.value.run
    assert statuses(run) == {
        "first": "cancelled", "first[0]": "completed", "first[1]": "cancelled", "first[2]": "skipped",
        "gather": "skipped",
    }  # fmt: skip
    assert run.resume().output.load() == [0, 1, 2]
    assert seen() == ["first 0", "first 1", "first 1", "first 2"]


def test_edited_code_holds_for_the_children_that_are_left(tmp_path, run_cupola, rewrite):
    program = (
        "from cupola import pipeline, step\n@step(cache=False)\ndef add(x: int) -> int:\n"
        "    if x == 2:\n        raise ValueError('no')\n    return x + 1\n"
        "@pipeline\ndef p() -> list[int]:\n    return add.map([1, 2, 3])\n"
    )
    (tmp_path / "p.py").write_text(program)
    assert run_cupola("run", "p.py").returncode == 1
    rewrite(tmp_path / "p.py", program.replace("raise ValueError('no')", "return 50"))
    refused = run_cupola("resume", "last")
    assert refused.returncode != 0
    assert "'add'" in refused.stderr
    done = run_cupola("resume", "last", "--with-current-code")
    assert done.returncode == 0, done.stderr
    assert Client().runs.list()[0].output.load() == [2, 50, 4]


# Lots: children that a worker gets at once.

LOTS = """
import os, pathlib, time
from cupola import Retry, get_step_context, pipeline, step

HERE = pathlib.Path(__file__).parent

def once(name):
    try:
        os.close(os.open(HERE / name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True

@step(cache=False)
def work(x: int) -> int:
    print(f"child {x}")
    with open(HERE / "witness", "a") as file:
        file.write(f"{x}\\n")
    return x

@step(retry=Retry(attempts=2, delay=0))
def unsteady(x: int) -> int:
    if x == 5 and once("raised"):
        raise ValueError("not yet")
    if x == 11 and once("died"):
        os.kill(os.getpid(), 9)
    return x

@step(cache=False)
def failing(x: int) -> int:
    if x == 30:
        raise ValueError("never 30")
    time.sleep(0.001)
    return x

@step(cache=False, timeout=0.5)
def slow(x: int) -> int:
    if x == 10:
        time.sleep(60)
    return x

@pipeline
def works() -> list[int]:
    return work.map(range(100), batch=20)

@pipeline
def survives() -> list[int]:
    return unsteady.map(range(60), batch=20)

@pipeline
def stops() -> list[int]:
    return failing.map(range(1000), batch=20)

@pipeline(on_error="continue")
def overruns() -> list[int]:
    return slow.map(range(40), batch=20)
"""


@pytest.fixture
def lots(tmp_path: Path, run_cupola: Any) -> Callable[..., Run]:
    (tmp_path / "lots.py").write_text(LOTS)

    def run(name: str, *, code: int = 0, workers: str = "2") -> Run:
        done = run_cupola("run", f"lots.py:{name}", "--workers", workers)
        assert done.returncode == code, done.stdout + done.stderr
        return Client().runs.list(limit=1)[0]

    return run


@pytest.mark.parametrize("workers", ["0", "1", "2"])
def test_children_of_a_lot_have_records_logs_and_runs_of_their_own(lots, tmp_path, workers):
    run = lots("works", workers=workers)
    assert run.output.load() == list(range(100))
    assert sorted(map(int, (tmp_path / "witness").read_text().split())) == list(range(100))
    assert [str(run.logs(step=f"work[{number}]")) for number in range(100)] == [f"child {n}" for n in range(100)]
    assert all(len(run.steps[f"work[{number}]"].attempts) == 1 for number in range(100))


def test_a_child_that_fails_or_dies_takes_nothing_of_its_lot_with_it(lots):
    run = lots("survives")
    assert run.output.load() == list(range(60))
    tried = {number: len(run.steps[f"unsteady[{number}]"].attempts) for number in range(60)}
    assert {number for number, count in tried.items() if count > 1} == {5, 11}
    assert str(lots("survives").steps["unsteady[7]"].status) == "cached"


def test_a_lot_that_has_begun_is_ended_when_a_child_fails_and_no_other_begins(lots):
    run = lots("stops", code=1)
    found = Counter(statuses(run).values())
    assert found["failed"] == 2
    assert found["skipped"] > 800
    assert found["completed"] >= 30
    assert sum(found.values()) == 1001


def test_a_child_that_overruns_its_timeout_leaves_the_rest_of_its_lot_to_another_worker(lots):
    run = lots("overruns", code=1)
    assert Counter(statuses(run).values()) == {"completed": 39, "failed": 2}
    assert all(len(one.attempts) == 1 for one in run.steps.values())


def test_runs_are_compared_child_by_child(run_cupola):
    @pipeline
    def compared(values: list[int]) -> None:
        inc.map(values)

    old, new = compared([1, 2]), compared([1, 3])
    told = json.loads(run_cupola("diff", old.id, new.id, "--json").stdout)
    assert [(one["name"], one["old"], one["new"]) for one in told["outputs"]] == [("inc[1].output", "3", "4")]
