"""Events come in, in order and once."""

from __future__ import annotations

import msgspec
import pytest
from histories import base_key, encoded, finished, manifest, output, record, started, whole, write_live

from cupola import ids, values
from cupola.entities.run import Failure, RunStatus, StepStatus
from cupola.errors import Conflict, Damaged, Diverged, Fenced
from cupola.event import (
    RunFacts,
    RunFinished,
    RunLost,
    RunMoved,
    StepCached,
    StepFailed,
    StepFinished,
    StepRetrying,
    StepsSkipped,
    StepStarted,
    encode_event,
)
from cupola.store import (
    OWNER,
    ConsumersOf,
    FindCached,
    FindCachedExactly,
    OutputsOf,
    SnapshotOf,
    StepBefore,
    StepsOf,
)
from cupola.stores.sql import open_store

pytestmark = pytest.mark.feature("CORE-03")


def test_a_run_is_what_its_events_say(store):
    run = ids.new_id()
    record(store, whole(run), run)
    found = store.get("run", run, who=OWNER)
    assert (found.number, found.status, found.steps) == (1, RunStatus.COMPLETED, {"completed": 2})
    assert (found.started_at, found.ended_at, found.head, found.epoch) == (100.0, 105.0, 7, 1)
    load, fit = store.ask(StepsOf(run), who=OWNER)
    assert (load.name, load.source, load.pipeline, load.status) == ("load", "steps:load", "training", "completed")
    assert (fit.started_at, fit.ended_at, fit.attempts[0].log) == (103.0, 104.0, (10, 20))
    made = store.ask(OutputsOf(run), who=OWNER)
    assert [(v.artifact, v.version, v.step, v.manifest) for v in made] == [
        ("training/0/output", "1", 0, manifest(1)),
        ("training/1/output", "1", 1, manifest(1)),
    ]


@pytest.mark.parametrize("cut", range(1, 6))
def test_the_same_events_again_change_nothing_however_they_are_cut(store, dump, cut):
    run = ids.new_id()
    events = encoded(whole(run))
    write_live(store.home, run, whole(run))
    store.append(run, 1, 1, events[:cut])
    store.append(run, 1, cut + 1, events[cut:])
    before = dump(store)
    for first in range(len(events)):
        for last in range(first, len(events) + 1):
            assert store.append(run, 1, first + 1, events[first:last]).head == 6
    assert dump(store) == before


def test_one_by_one_and_all_at_once_are_the_same(store, dump, tmp_path):
    run = ids.new_id()
    events = encoded(whole(run))
    store.append(run, 1, 1, events)
    other = open_store(tmp_path / "other")
    for seq, event in enumerate(events, 1):
        other.append(run, 1, seq, [event])
    assert dump(other) == dump(store)


@pytest.mark.parametrize("cut", range(1, 7))
def test_events_given_as_objects_too_are_the_same(store, dump, tmp_path, cut):
    run = ids.new_id()
    events, data = whole(run), encoded(whole(run))
    write_live(store.home, run, events)
    store.append(run, 1, 1, data[:cut], decoded=events[:cut])
    store.append(run, 1, 1, data, decoded=events)
    other = open_store(tmp_path / "other")
    other.append(run, 1, 1, data)
    assert dump(other) == dump(store)


def test_an_event_that_the_store_has_no_place_for_keeps_none_of_the_others_away(store):
    class Strange(msgspec.Struct):
        at: float = 0.0

    run = ids.new_id()
    events = [started(run), Strange(), StepStarted(1.0, 0)]
    data = [encode_event(events[0]), b"strange", encode_event(events[2])]
    assert store.append(run, 1, 1, data, decoded=events).head == 3
    assert store.get("run", run, who=OWNER).steps == {"running": 1, "pending": 1}
    dead = store._database.reading().execute("SELECT seq, reason FROM dead_letter").fetchall()
    assert dead == [(2, "the store has no place for a Strange")]


def test_a_gap_is_refused(store):
    run = ids.new_id()
    store.append(run, 1, 1, encoded(whole(run))[:2])
    with pytest.raises(Conflict, match="known up to event 2, so event 4 leaves a gap"):
        store.append(run, 1, 4, encoded(whole(run))[3:])


def test_a_lower_epoch_is_fenced_and_nothing_of_it_is_kept(store, dump):
    run = ids.new_id()
    events = encoded(whole(run))
    store.append(run, 2, 1, events[:2])
    before = dump(store)
    with pytest.raises(Fenced, match="driver of epoch 2; what epoch 1 writes is refused"):
        store.append(run, 1, 3, events[2:])
    assert dump(store) == before


def test_another_history_diverges_and_overwrites_nothing(store, dump):
    run = ids.new_id()
    store.append(run, 1, 1, encoded(whole(run, 1)))
    before = dump(store)
    with pytest.raises(Diverged, match="nothing was overwritten"):
        store.append(run, 1, 1, encoded(whole(run, 2)))
    assert dump(store) == before


def test_an_append_after_a_reader_was_ahead_goes_on(store):
    run = ids.new_id()
    events = encoded(whole(run))
    store.append(run, 1, 1, events[:1])
    reader = open_store(store.home)
    reader.append(run, 1, 1, events[:5])
    assert store.append(run, 1, 2, events[1:3]).head == 5
    assert store.append(run, 1, 4, events[3:]).head == 6


def test_a_journal_that_begins_otherwise_is_damaged(store):
    with pytest.raises(Damaged, match="begins with StepStarted"):
        store.append(ids.new_id(), 1, 1, encoded([StepStarted(1.0, 0)]))


def test_runs_are_numbered_in_the_order_in_which_they_came(store):
    first, second = ids.new_id(), ids.new_id()
    store.append(second, 1, 1, encoded(whole(second)))
    store.append(first, 1, 1, encoded(whole(first)))
    assert store.get("run", second, who=OWNER).number == 1
    assert store.get("run", first, who=OWNER).number == 2


def test_a_retry_keeps_both_attempts(store):
    run = ids.new_id()
    failure = Failure("ValueError", "no")
    events = [
        started(run),
        StepStarted(1.0, 0, 1, 0),
        StepRetrying(2.0, 0, 1, failure, 0.5, 7),
        StepStarted(3.0, 0, 2, 7),
        finished(0, at=4.0, attempt=2, log=9),
    ]
    for seq, event in enumerate(encoded(events), 1):
        store.append(run, 1, seq, [event])
    (step,) = store.ask(StepsOf(run), who=OWNER)
    assert [(a.number, a.started_at, a.ended_at, a.log, a.failure) for a in step.attempts] == [
        (1, 1.0, 2.0, (0, 7), failure),
        (2, 3.0, 4.0, (7, 9), None),
    ]
    assert (step.started_at, step.ended_at) == (1.0, 4.0)


def test_failed_skipped_cached_and_lost_steps_are_counted(store):
    run = ids.new_id()
    names = ("a", "b", "c", "d", "e")
    events = [
        started(run, names),
        StepCached(1.0, 0, "f" * 32, 3, {"x": "val:1"}, "in:1", 9.0, 0.5),
        StepStarted(1.0, 1),
        StepFailed(2.0, 1, Failure("E", "m"), saved=(output(1, "kept", "kept", saved=True),)),
        StepsSkipped(2.0, (2,), 1),
        RunMoved(2.5, RunStatus.CANCELLING, "Ctrl-C"),
        StepStarted(3.0, 3),
        RunLost(4.0, "gone", "SIGKILL"),
    ]
    store.append(run, 1, 1, encoded(events))
    found = store.get("run", run, who=OWNER)
    assert found.steps == {"cached": 1, "failed": 1, "skipped": 1, "lost": 1, "pending": 1}
    assert (found.status, found.failure.signal) == (RunStatus.LOST, "SIGKILL")
    steps = store.ask(StepsOf(run), who=OWNER)
    assert [step.status for step in steps] == ["cached", "failed", "skipped", "lost"]
    assert (steps[0].from_run, steps[0].from_step, steps[0].saved_s, steps[0].made_at) == ("f" * 32, 3, 9.0, 0.5)
    assert steps[1].failure == Failure("E", "m")
    assert [v.saved for v in store.ask(OutputsOf(run, 1), who=OWNER)] == [True]
    assert isinstance(steps[3].status, StepStatus)


def test_tags_and_metadata_stand_where_they_were_put(store):
    run = ids.new_id()
    value = values.encode(0.5)
    events = [
        started(run, tags=("nightly",)),
        StepFinished(
            2.0, 0, outputs=(output(1, tags=("gold",), metadata={"rows": value}),), metadata={"a": value},
            run_metadata={"b": value}, tags=("s",), run_tags=("r",), removed_run_tags=("nightly",),
            metrics=(("m", 0, 1),),
        ),
    ]  # fmt: skip
    store.append(run, 1, 1, encoded(events))
    found, (step,), (version,) = (
        store.get("run", run, who=OWNER),
        store.ask(StepsOf(run), who=OWNER),
        store.ask(OutputsOf(run), who=OWNER),
    )
    assert (found.tags, found.metadata) == (("r",), {"b": value})
    assert (step.tags, step.metadata, step.metrics) == (("s",), {"a": value}, (("m", 0, 1),))
    assert (version.tags, version.metadata) == (("gold",), {"rows": value})


@pytest.mark.feature("ENG-11")
def test_facts_and_blobs_that_are_found_out_meanwhile_are_those_of_the_run(store):
    run = ids.new_id()
    store.append(run, 1, 1, [encode_event(started(run, facts={"host": "h"}))])
    found = RunFacts(101.0, {"commit": "abc", "unknown.diff": "why"}, {"archive": "blob:1"})
    store.append(run, 1, 2, [encode_event(found)])
    record = store.get("run", run, who=OWNER)
    assert record.facts == {"host": "h", "commit": "abc", "unknown.diff": "why"}
    assert record.blobs == {"archive": "blob:1"}


def test_versions_are_consecutive_over_interleaved_runs(store):
    runs = [ids.new_id() for _ in range(3)]
    for run in runs:
        store.append(run, 1, 1, encoded([started(run)]))
    for seq in range(2, 6):
        for run in runs:
            saved = (output(seq, artifact="shared"), output(-seq, artifact="shared"))
            store.append(run, 1, seq, encoded([StepFinished(1.0, seq - 2, outputs=saved)]))
    numbers = [int(v.version) for run in runs for v in store.ask(OutputsOf(run), who=OWNER)]
    assert sorted(numbers) == list(range(1, 25))
    assert store.get("version", "shared", who=OWNER).version == "24"
    assert store.get("artifact", "shared", who=OWNER).versions == 24


def test_a_version_named_by_the_user_is_kept_and_a_second_one_is_told(store):
    run = ids.new_id()
    outputs = tuple(
        output(n, artifact="m", version=version)
        for n, version in enumerate(["gold", "", "gold", "7", "7", "", "latest"])
    )
    store.append(run, 1, 1, encoded([started(run), StepFinished(1.0, 0, outputs=outputs)]))
    assert [v.version for v in store.ask(OutputsOf(run), who=OWNER)] == ["gold", "2", "3", "7", "8", "9", "10"]
    (step,) = store.ask(StepsOf(run), who=OWNER)
    assert step.warnings == (
        "there is a version 'gold' already; it is version 3 of 'm'",
        "there is a version '7' already; it is version 8 of 'm'",
        "'latest' always means the newest version, so none can be named so; it is version 10 of 'm'",
    )
    assert store.get("version", "m:gold", who=OWNER).position == 0
    assert store.get("version", "m:latest", who=OWNER).version == "10"


def test_an_event_that_cannot_be_applied_blocks_none_of_the_others(store):
    run = ids.new_id()
    events = encoded([started(run), StepStarted(1.0, 0)])
    events.append(b"\x93\xcc\xff\x00\x00")
    events += encoded([finished(0, log=5), finished(0, 2), RunFinished(3.0, RunStatus.COMPLETED)])
    assert store.append(run, 1, 1, events).head == 6
    found = store.get("run", run, who=OWNER)
    assert (found.status, found.head) == (RunStatus.COMPLETED, 6)
    dead = store._database.reading().execute("SELECT seq, reason FROM dead_letter ORDER BY seq").fetchall()
    assert [row[0] for row in dead] == [3, 5]
    assert "not an event that this Cupola knows" in dead[0][1]


def test_a_finished_step_never_runs_again(store):
    run = ids.new_id()
    events = [started(run), StepStarted(1.0, 0), finished(0, outputs=()), StepStarted(5.0, 0), StepStarted(6.0, 1)]
    for seq, event in enumerate(encoded(events), 1):
        store.append(run, 1, seq, [event])
    assert [step.status for step in store.ask(StepsOf(run), who=OWNER)] == ["completed", "running"]
    assert store.get("run", run, who=OWNER).steps == {"completed": 1, "running": 1}
    assert [row[1] for row in store._database.reading().execute("SELECT * FROM dead_letter")] == [4]


def test_a_snapshot_that_is_gone_does_not_hide_its_run(store):
    run = ids.new_id()
    first = started(run)
    lost = msgspec.structs.replace(first, snapshot_bytes=b"", snapshot_blob="blob:" + "0" * 40)
    store.append(run, 1, 1, encoded([lost, StepStarted(1.0, 0), finished(0)]))
    assert [step.name for step in store.ask(StepsOf(run), who=OWNER)] == ["#0"]


def test_the_newest_usable_result_is_found_for_each_key(store):
    old, new = ids.new_id(), ids.new_id()
    record(store, whole(old, 1), old)
    record(store, whole(new, 2), new)
    keys = (base_key("training", "load"), base_key("training", "fit"), "base:unknown")
    found = store.ask(FindCached(keys), who=OWNER)
    assert {(entry.run, entry.step) for entry in found.values()} == {(new, 0), (new, 1)}
    entry = next(entry for entry in found.values() if entry.step == 0)
    assert (entry.made_at, entry.duration_s, entry.outputs[0].manifest) == (102.0, 1.0, manifest(2))
    earlier = store.ask(FindCachedExactly(keys[0], finished(0, 1).inputs_key), who=OWNER)
    assert (earlier.run, earlier.outputs[0].manifest) == (old, manifest(1))
    assert store.ask(FindCachedExactly(keys[0], "in:other"), who=OWNER) is None


@pytest.mark.parametrize(
    "unusable",
    [{"inputs_key": ""}, {"uncacheable": "a file changed"}, {"expires_at": 1.0}],
    ids=["no key", "reason", "old"],
)
def test_a_result_that_may_not_be_used_again_is_not_found(store, unusable):
    run = ids.new_id()
    store.append(run, 1, 1, encoded([started(run), finished(0, **unusable)]))
    assert store.ask(FindCached((base_key("training", "load"),)), who=OWNER) == {}


def test_results_of_failed_and_cached_steps_are_not_found(store):
    run = ids.new_id()
    events = [started(run), StepCached(1.0, 0, "f" * 32, 0, {}, "in:1"), StepFailed(2.0, 1, Failure("E", ""))]
    store.append(run, 1, 1, encoded(events))
    keys = tuple(base_key("training", name) for name in ("load", "fit"))
    assert store.ask(FindCached(keys), who=OWNER) == {}


def test_many_keys_are_asked_for_at_once(store):
    run = ids.new_id()
    names = [f"step_{n}" for n in range(1203)]
    events = [started(run, names), *(finished(n, n) for n in range(1203))]
    store.append(run, 1, 1, encoded(events))
    found = store.ask(FindCached(tuple(base_key("training", name) for name in names)), who=OWNER)
    assert sorted(entry.step for entry in found.values()) == list(range(1203))


def test_consumers_and_earlier_records_are_found(store):
    first, second = ids.new_id(), ids.new_id()
    record(store, whole(first), first)
    record(store, whole(second), second)
    consumers = store.ask(ConsumersOf(manifest(1).digest), who=OWNER)
    assert [(step.run, step.name) for step in consumers] == [(second, "fit"), (first, "fit")]
    before = store.ask(StepBefore("training", "fit", 2), who=OWNER)
    assert (before.run, before.name) == (first, "fit")
    assert store.ask(StepBefore("training", "fit", 1), who=OWNER) is None
    assert store.ask(StepBefore("training", "nothing", 9), who=OWNER) is None


def test_a_version_that_a_step_loads_by_itself_makes_it_a_consumer(store):
    first, second = ids.new_id(), ids.new_id()
    record(store, whole(first, 5), first)
    store.append(second, 1, 1, encoded([started(second), finished(0, used=((first, 0, 0),))]))
    assert second in [step.run for step in store.ask(ConsumersOf(manifest(5).digest), who=OWNER)]


def test_the_snapshot_comes_back_byte_for_byte(store):
    run = ids.new_id()
    first = started(run)
    store.append(run, 1, 1, [encode_event(first)])
    assert store.ask(SnapshotOf(first.snapshot), who=OWNER) == first.snapshot_bytes
