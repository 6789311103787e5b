"""Runs of mapped steps: children, their order, failures, cache entries, logs, and how they are recorded and shown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import pytest

from cupola import Client, Retry, Run, RunFailed, log_metadata, pipeline, step, unmapped

pytestmark = pytest.mark.feature("ENG-03")


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
