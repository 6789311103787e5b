"""The client: lists, filters, changes and deletions of what is recorded."""

from __future__ import annotations

import datetime
import re
from typing import Annotated

import pytest

from cupola import Ambiguous, ArtifactConfig, Client, ConfigError, NotFound, log_metadata, pipeline, step
from cupola.client.connect import connect
from cupola.client.diff import diff_runs
from cupola.client.search import read_time


@step(cache=False)
def score(value: float) -> Annotated[float, ArtifactConfig(name="score", kind="metrics")]:
    log_metadata({"accuracy": value, "label": "good" if value > 0.5 else "poor"})
    return value


@step
def double(value: float) -> float:
    return value * 2


@step(cache=False)
def fail(value: float) -> float:
    raise RuntimeError("down")


@pipeline
def scoring(value: float = 0.5) -> float:
    return double(score(value))


@pipeline(tags=["broken"])
def broken(value: float = 0.5) -> float:
    return fail(value)


def three_runs():
    first, second = scoring(value=0.25), scoring(value=0.75)
    third = broken.with_options(raise_on_failure=False)()
    return first, second, third


def names(found) -> list[str]:
    return [item.name for item in found]


@pytest.mark.feature("CORE-09")
def test_lists_are_newest_first_and_cut_at_the_limit():
    first, second, third = three_runs()
    client = Client()
    assert names(client.runs.list()) == [third.name, second.name, first.name]
    assert names(client.runs.list(limit=1)) == [third.name]
    assert names(client.runs.list(limit=None)) == names(client.runs.iter())
    assert names(client.runs.list(sort="started")) == [first.name, second.name, third.name]
    assert names(client.runs.list(sort="-started")) == [third.name, second.name, first.name]
    assert client.runs.count() == 3


@pytest.mark.feature("CORE-09")
def test_filters_are_fields_tags_metadata_and_times():
    first, second, third = three_runs()
    runs, steps = Client().runs, Client().steps
    assert names(runs.list(status="failed")) == [third.name]
    assert names(runs.list(status=["failed", "completed"], pipeline="scoring")) == [second.name, first.name]
    assert names(runs.list(tag="broken")) == [third.name]
    assert names(runs.list(since="1h", pipeline="scoring")) == [second.name, first.name]
    assert runs.list(until="2020-01-01") == []
    assert runs.list(since=datetime.timedelta(0)) == []
    assert runs.count(status="completed") == 2
    assert [found.run.id for found in steps.list(metadata="accuracy>0.5")] == [second.id]
    assert [found.run.id for found in steps.list(metadata={"accuracy": 0.25})] == [first.id]
    assert [found.run.id for found in steps.list(metadata=["accuracy>=0.25", "label=poor"])] == [first.id]
    assert names(steps.list(metadata="label")) == ["score", "score"]
    assert names(steps.list(run=first.id, name="double")) == ["double"]


@pytest.mark.feature("CORE-09")
def test_an_unknown_filter_names_the_nearest():
    with pytest.raises(ConfigError, match="runs have no filter 'statis'") as error:
        Client().runs.list(statis="failed")
    assert error.value.fix == "did you mean 'status'?"
    with pytest.raises(ConfigError, match="no time"):
        Client().runs.list(since="yesterdayish")
    with pytest.raises(ConfigError, match="sorted by"):
        Client().runs.list(sort="colour")
    with pytest.raises(ConfigError, match="at least 1"):
        Client().runs.list(limit=0)
    with pytest.raises(ConfigError, match="names no key"):
        Client().steps.list(metadata=">0.5")


@pytest.mark.feature("CORE-09")
def test_a_ref_is_an_id_a_beginning_of_one_or_a_name():
    first, second, _ = three_runs()
    client = Client()
    assert client.runs.get(first.id).id == first.id
    assert client.runs.get(first.name).id == first.id
    assert client.pipelines.get("scoring").runs == 2
    assert client.pipelines.get("scoring").last_run.id == second.id
    with pytest.raises(NotFound, match="nothing-like-this"):
        client.runs.get("nothing-like-this")
    with pytest.raises(Ambiguous) as error:
        client.runs.get(first.id[:4])
    assert first.id in f"{error.value}{error.value.fix}"


@pytest.mark.feature("CORE-09")
def test_artifacts_have_versions_by_number():
    three_runs()
    client = Client()
    assert [found.version for found in client.artifacts.versions("score")] == ["2", "1"]
    assert client.artifacts.get("score").load() == 0.75
    assert client.artifacts.get("score:latest").load() == 0.75
    assert client.artifacts.get("score:1").load() == 0.25
    artifact = next(found for found in client.artifacts.list() if found.name == "score")
    assert [found.load() for found in artifact.versions] == [0.75, 0.25]
    assert artifact.latest.version == "2"
    assert [found.ref for found in client.artifacts.versions(kind="metrics")] == ["score:2", "score:1"]
    with pytest.raises(NotFound):
        client.artifacts.versions("nothing")


@pytest.mark.feature("CORE-09")
def test_tags_and_metadata_can_be_changed_one_by_one():
    run = scoring()
    client = Client()
    changed = client.runs.update(run.id, add_tags=["a", "b"], metadata={"note": "hello", "n": 3})
    assert (changed.tags, changed.metadata) == (["a", "b"], {"note": "hello", "n": 3})
    changed = client.runs.update(run.name, tags=["b", "c"], metadata={"n": None})
    assert (changed.tags, changed.metadata) == (["b", "c"], {"note": "hello"})
    changed = client.runs.update(run.id, remove_tags=["c"])
    assert (changed.tags, changed.metadata) == (["b"], {"note": "hello"})
    version = client.artifacts.update("score:1", add_tags=["best"])
    assert version.tags == ["best"]
    step_run = client.steps.update(run.steps["score"].id, add_tags=["s"])
    assert step_run.tags == ["s"]


@pytest.mark.feature("CORE-09")
def test_deleting_a_run_takes_its_steps_and_versions_along():
    first, second, _ = three_runs()
    client = Client()
    client.runs.delete(first.name)
    assert [found.id for found in client.runs.list(pipeline="scoring")] == [second.id]
    assert [found.version for found in client.artifacts.versions("score")] == ["2"]
    with pytest.raises(NotFound):
        client.runs.get(first.id)
    with pytest.raises(NotFound):
        client.runs.delete(first.id)


@pytest.mark.feature("CORE-09")
def test_only_resources_that_exist_are_there():
    with pytest.raises(AttributeError):
        _ = Client().models
    assert repr(Client()) == "<Client: runs, steps, pipelines, artifacts>"


@pytest.mark.feature("CORE-09")
def test_a_connection_is_kept_while_the_settings_stay(monkeypatch, tmp_path):
    first = connect()
    assert connect() is first
    monkeypatch.setenv("CUPOLA_HOME", str(tmp_path / "other"))
    assert connect() is not first
    assert Client().runs.list() == []


@pytest.mark.feature("CORE-09")
def test_times_are_dates_or_how_long_ago():
    assert read_time("1h") == pytest.approx(read_time(datetime.timedelta(hours=1)), abs=1)
    assert read_time("1w") == pytest.approx(read_time("7d"), abs=1)
    assert read_time("2026-01-02T03:04:05+00:00") == 1767323045
    assert read_time(datetime.date(2026, 1, 2)) == datetime.datetime(2026, 1, 2).timestamp()


@pytest.mark.feature("CORE-09")
def test_two_runs_are_compared_by_parameters_outputs_and_states():
    first, second, third = three_runs()
    found = diff_runs(first, second)
    assert [(item.name, item.old, item.new) for item in found.params] == [("value", 0.25, 0.75)]
    assert [(item.name, item.old, item.new) for item in found.outputs] == [
        ("score.score", "0.25", "0.75"),
        ("double.output", "0.5", "1.5"),
    ]
    assert found.steps == ()
    assert found.code == ()
    assert not found.is_empty
    other = diff_runs(first, third)
    assert [(item.name, item.old, item.new) for item in other.steps] == [
        ("score", "completed", None),
        ("double", "completed", None),
        ("fail", None, "failed"),
    ]
    fail_of = {item.name.rpartition(":")[2]: (item.old, item.new) for item in other.code}["fail"]
    # What has no value that people could compare is told apart by its digest.
    assert fail_of[0] is None
    assert re.fullmatch("code:[0-9a-f]{8}", fail_of[1])
    assert diff_runs(first, first).is_empty
