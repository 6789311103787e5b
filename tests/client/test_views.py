"""Runs, steps and artifact versions as people see them."""

from __future__ import annotations

import datetime
import html.parser
import threading
from typing import Annotated

import pytest

from cupola import Client, NotFound, Retry, log_metadata, log_metrics, pipeline, save_artifact, step
from cupola.client.connect import connect
from cupola.client.views import open_run


@step
def load(rows: int) -> list[int]:
    print("loading", rows)
    return list(range(rows))


@step
def split(values: list[int]) -> tuple[Annotated[list[int], "train"], Annotated[list[int], "test"]]:
    return values[1:], values[:1]


@step
def fit(train: list[int]) -> float:
    log_metadata({"rows": len(train)})
    log_metrics({"loss": 0.5})
    log_metrics({"loss": 0.25})
    return sum(train) / len(train)


@step
def gather(parts: list[float], extra: float = 1.0) -> float:
    return sum(parts) + extra


@pipeline(tags=["nightly"])
def training(rows: int = 4) -> tuple[Annotated[float, "mean"], Annotated[list[int], "held"]]:
    train, test = split(load(rows))
    return fit(train), test


@step
def explode(values: list[int]) -> int:
    print("before")
    raise ValueError(f"no good: {len(values)}")


@step
def after(value: int) -> int:
    return value


@pipeline
def breaking() -> int:
    return after(explode(load(2)))


def failed_run():
    return breaking.with_options(raise_on_failure=False)()


@pytest.mark.feature("CORE-09")
def test_a_run_tells_what_happened():
    run = training(rows=5)
    assert str(run.status) == "completed"
    assert run.pipeline == "training"
    assert run.params == {"rows": 5}
    assert run.tags == ["nightly"]
    assert run.name == f"training-{run.id[-6:]}"
    assert run.started_at.tzinfo is not None
    assert run.started_at <= run.ended_at
    assert run.duration == run.ended_at - run.started_at
    assert isinstance(run.duration, datetime.timedelta)
    assert run.error is None
    assert run.snapshot.id.startswith("snap:")
    assert run.facts["host"]


@pytest.mark.feature("CORE-09")
def test_outputs_have_the_names_of_the_return_annotation():
    run = training()
    assert list(run.outputs) == ["mean", "held"]
    assert run.outputs["mean"].load() == 2.0
    assert run.outputs["held"].load() == [0]


@pytest.mark.feature("CORE-09")
def test_the_only_output_of_several_is_an_error_that_lists_them():
    run = training()
    with pytest.raises(NotFound, match="2 outputs: mean, held"):
        _ = run.output
    with pytest.raises(NotFound, match="2 outputs: train, test"):
        _ = run.steps["split"].output


@pytest.mark.feature("CORE-09")
def test_steps_are_in_the_order_of_the_graph_and_a_wrong_name_has_the_nearest():
    run = training()
    assert list(run.steps) == ["load", "split", "fit"]
    with pytest.raises(NotFound, match="did you mean 'split'"):
        run.steps["splitt"]
    assert run.steps.get("nothing") is None
    assert "nothing" not in run.steps


@pytest.mark.feature("CORE-09")
def test_a_step_has_inputs_outputs_metadata_and_metrics():
    step_run = training().steps["fit"]
    assert str(step_run.status) == "completed"
    assert step_run.inputs["train"].load() == [1, 2, 3]
    assert step_run.output.load() == 2.0
    assert step_run.metadata == {"rows": 3, "loss": 0.25}
    assert step_run.metrics == {"loss": [(0.0, 0.5), (1.0, 0.25)]}
    assert [attempt.number for attempt in step_run.attempts] == [1]
    assert step_run.resources.peak_bytes >= 0
    assert step_run.run.name.startswith("training-")


@pytest.mark.feature("CORE-09")
def test_constants_and_collections_among_inputs_load_like_versions():
    @pipeline
    def collecting() -> float:
        return gather([fit(load(3)), fit(load(5))], extra=2.0)

    run = collecting()
    inputs = run.steps["gather"].inputs
    assert inputs["extra"].load() == 2.0
    assert inputs["parts"].load() == [1.0, 2.0]
    assert len(inputs["parts"]) == 2
    assert run.output.load() == 5.0


@pytest.mark.feature("CORE-09")
def test_outputs_of_a_cached_step_are_those_of_the_run_they_come_from():
    first, second = training(), training()
    assert {str(step_run.status) for step_run in second.steps.values()} == {"cached"}
    assert second.steps["fit"].output.id == first.steps["fit"].output.id
    assert second.outputs["mean"].load() == 2.0
    assert len(Client().artifacts.versions("training/fit/output")) == 1
    report = second.steps["fit"].cache
    assert report.hit
    assert report.from_run == first.id
    assert f"from run {first.name}" in str(second)


@pytest.mark.feature("CORE-09")
def test_a_failed_run_keeps_its_error_and_skipped_steps():
    run = failed_run()
    assert {name: str(step_run.status) for name, step_run in run.steps.items()} == {
        "load": "completed",
        "explode": "failed",
        "after": "skipped",
    }
    assert str(run.error) == "ValueError: no good: 2"
    assert list(run.outputs) == []
    assert list(run.steps["after"].inputs) == []
    with pytest.raises(NotFound, match="has no output"):
        _ = run.steps["explode"].output
    page = str(run)
    assert "ValueError: no good: 2" in page
    assert "cupola/engine" not in page


@pytest.mark.feature("CORE-09")
def test_attempts_of_a_retried_step_are_all_there():
    tries: list[int] = []

    @step(cache=False, retry=Retry(attempts=3, delay=0.0))
    def shaky() -> int:
        tries.append(1)
        print("attempt", len(tries))
        if len(tries) < 3:
            raise ConnectionError(f"down {len(tries)}")
        return 1

    @pipeline
    def retried() -> int:
        return shaky()

    step_run = retried().steps["shaky"]
    assert [str(attempt.error) if attempt.error else "" for attempt in step_run.attempts] == [
        "ConnectionError: down 1",
        "ConnectionError: down 2",
        "",
    ]
    assert "3 attempts" in str(step_run.run)
    assert step_run.logs().count("attempt") == 3


@pytest.mark.feature("CORE-09")
def test_logs_of_a_step_are_its_own():
    run = failed_run()
    assert "loading 2" in run.logs()
    assert "loading" not in run.logs(step="explode")
    assert next(iter(run.logs(step="explode"))) == "before"
    assert str(run.logs(step="after")) == ""
    assert [line.text for line in run.logs(step="load", follow=True)] == ["loading 2"]


@pytest.mark.feature("CORE-09")
def test_a_version_tells_who_made_and_who_read_it():
    run = training()
    version = run.steps["split"].outputs["train"]
    assert (version.name, version.version, version.ref) == ("training/split/train", "1", "training/split/train:1")
    assert version.producer.name == "split"
    assert [consumer.name for consumer in version.consumers] == ["fit"]
    assert version.preview() == "[1, 2, 3]"
    assert version.size > 0
    assert version.digest.startswith("val:")
    lineage = run.outputs["mean"].lineage()
    assert [made.step for made in lineage.steps] == ["fit", "split", "load"]
    assert lineage.steps[0].read == {"train": ["training/split/train:1"]}
    assert "training/load/output:1 by load" in str(lineage)


@pytest.mark.feature("CORE-09")
def test_what_a_step_saves_by_name_is_listed_apart_from_its_outputs():
    @step(cache=False)
    def saving() -> int:
        save_artifact([1, 2], "kept", metadata={"rows": 2}, tags=["mine"])
        return 7

    @pipeline
    def saves() -> int:
        return saving()

    step_run = saves().steps["saving"]
    assert step_run.output.load() == 7
    assert [(version.name, version.load()) for version in step_run.saved] == [("kept", [1, 2])]
    assert step_run.saved[0].metadata == {"rows": 2}
    assert step_run.saved[0].tags == ["mine"]


class Tags(html.parser.HTMLParser):
    """Collects the tags and attributes of a piece of HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.found |= {tag, *(name for name, _ in attrs)}


@pytest.mark.feature("CORE-09", "CORE-12")
def test_hostile_text_is_shown_and_never_obeyed():
    bad = "<img src=x onerror=alert(1)><script>alert(1)</script>\x1b[2J\u202e"

    @step(cache=False)
    def hostile(text: str) -> str:
        log_metadata({bad: bad})
        print(bad)
        raise ValueError(bad)

    @pipeline
    def shown(text: str) -> str:
        return hostile(text)

    run = shown.with_options(raise_on_failure=False)(text=bad)
    version = training().steps["fit"].output
    for thing in (run, run.steps["hostile"], version):
        tags = Tags()
        tags.feed(thing._repr_html_())
        assert tags.found <= {"style", "div", "class", "strong", "table", "tr", "td", "th", "pre"}
        text = f"{thing}{thing!r}"
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "\\x1b[2J" in str(run)
    assert bad in str(run.error)


@pytest.mark.feature("CORE-09")
def test_a_run_of_another_thread_is_seen_while_it_goes_on():
    seen, go_on = threading.Event(), threading.Event()
    found: list[str] = []

    @step(cache=False)
    def slow() -> int:
        print("working")
        seen.set()
        assert go_on.wait(20)
        return 1

    @pipeline
    def waiting() -> int:
        return after(slow())

    def watch() -> None:
        assert seen.wait(20)
        run = Client().runs.list(pipeline="waiting", limit=1)[0]
        view = open_run(run.id)
        found.append(str(view.status))
        found.append(str(view.steps["slow"].status))
        found.append(str(view.steps["after"].status))
        found.append(repr(view.duration is not None))
        with pytest.raises(TimeoutError):
            view.wait(timeout=0.01)
        go_on.set()
        found.append(str(view.wait(timeout=20).status))
        found.append(str(view.steps["after"].status))

    watcher = threading.Thread(target=watch)
    watcher.start()
    waiting()
    watcher.join(20)
    assert found == ["running", "running", "pending", "True", "completed", "completed"]


@pytest.mark.feature("CORE-09")
def test_the_graph_is_drawn_with_the_state_of_each_step():
    run = failed_run()
    assert run.draw() == "breaking\n✓ load\n✗ explode\n- after"
    assert "s0 --> s1" in run.draw(format="mermaid")
    picture = run.draw(format="svg")
    assert picture.startswith("<svg")
    assert "explode" in picture


@pytest.mark.feature("CORE-09")
def test_configuration_says_what_held_and_where_it_was_said():
    @step(retry=Retry(attempts=2, delay=0.0), cache=False)
    def set_up() -> int:
        return 1

    @pipeline(on_error="continue")
    def configured(rate: float = 0.5) -> int:
        return set_up()

    config = configured(rate=0.25).config
    assert config["params"] == {"rate": 0.25}
    assert config["on_error"] == "continue"
    assert config["steps"] == {"set_up": {"cache": False, "retry": {"attempts": 2, "delay": 0.0}}}


@pytest.mark.feature("CORE-09")
def test_nothing_is_asked_twice_of_a_run_that_is_over(monkeypatch):
    run = training()
    first = str(run)
    store = type(connect().store)

    def refuse(*_arguments, **_words):
        raise AssertionError("the store was asked again")

    monkeypatch.setattr(store, "ask", refuse)
    assert str(run.status) == "completed"
    assert run.steps["fit"].output.load() == 1.5 + 0.5
    monkeypatch.undo()
    assert first.splitlines()[0] == str(run).splitlines()[0]
