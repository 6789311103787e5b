"""What people delete and change, and that a rebuilt database knows it."""

from __future__ import annotations

import pytest
from histories import base_key, encoded, finished, output, record, started, whole, write_live

from cupola import ids, journal, values
from cupola.entities.run import RunStatus
from cupola.errors import ConfigError, Conflict, Forbidden, NotFound
from cupola.event import RunFinished, StepFinished
from cupola.store import OWNER, Delete, FindCached, OutputsOf, Principal, Query, StepsOf, Update
from cupola.stores import catalogue
from cupola.stores.rebuild import rebuild_database
from cupola.stores.sql import open_store

pytestmark = pytest.mark.feature("CORE-03")
KEYS = (base_key("training", "load"), base_key("training", "fit"))


def rebuilt(store):
    rebuild_database(store.home, lambda name: b"")
    return open_store(store.home)


def logical(dump, store):
    """Return a database's rows but for numbers that only it knows."""
    tables = dump(store)
    tables.pop("sqlite_stat1", None)
    return tables


def delete(store, kind, identifier, key=""):
    store.write([Delete(kind, identifier)], key=key or ids.new_id(), who=OWNER)


def test_a_deleted_run_is_gone_with_all_that_only_it_has(store, dump):
    kept, gone = ids.new_id(), ids.new_id()
    record(store, whole(kept, 1), kept)
    record(store, whole(gone, 2), gone)
    delete(store, "run", gone)
    with pytest.raises(NotFound):
        store.get("run", gone, who=OWNER)
    assert store.ask(StepsOf(gone), who=OWNER) == ()
    assert not journal.run_folder(store.home, gone).exists()
    assert {entry.run for entry in store.ask(FindCached(KEYS), who=OWNER).values()} == {kept}
    assert store.get("pipeline", "training", who=OWNER).runs == 1
    for table in ("step", "version", "input", "tag", "metadata", "place"):
        assert all(row[0] == 1 or 1 in row for row in dump(store)[table]), table


def test_numbers_of_deleted_runs_and_versions_are_never_given_again(store):
    first = record(store, whole(run := ids.new_id()), run)
    delete(store, "run", first)
    assert store.find("artifact", Query(), who=OWNER).items == ()
    for opened in (store, rebuilt(store)):
        second = record(opened, whole(run := ids.new_id()), run)
        number = opened.get("run", second, who=OWNER).number
        assert number > 1
        assert opened.get("version", "training/0/output", who=OWNER).version == str(number)


def test_a_live_run_is_not_deleted(store):
    run = ids.new_id()
    write_live(store.home, run, whole(run)[:3])
    with pytest.raises(Conflict, match=r"not over\nend it first: press Ctrl-C"):
        delete(store, "run", store.get("run", run, who=OWNER).id)
    with pytest.raises(Conflict, match="not over"):
        delete(store, "pipeline", "training")
    with pytest.raises(Conflict, match="not over"):
        delete(store, "artifact", "training/0/output")


def test_a_deleted_step_takes_its_results_along(store):
    run = record(store, whole(run := ids.new_id()), run)
    delete(store, "step", f"{run}.0")
    assert [step.name for step in store.ask(StepsOf(run), who=OWNER)] == ["fit"]
    assert [version.step for version in store.ask(OutputsOf(run), who=OWNER)] == [1]
    assert [entry.step for entry in store.ask(FindCached(KEYS), who=OWNER).values()] == [1]


@pytest.mark.parametrize("kind", ["artifact", "version"])
def test_a_result_that_lost_a_value_is_no_result(store, kind):
    run = record(store, whole(run := ids.new_id()), run)
    delete(store, kind, "training/0/output" if kind == "artifact" else f"{run}.0.0")
    assert [entry.step for entry in store.ask(FindCached(KEYS), who=OWNER).values()] == [1]
    assert [step.name for step in store.ask(StepsOf(run), who=OWNER)] == ["load", "fit"]
    with pytest.raises(NotFound):
        store.get("artifact", "training/0/output", who=OWNER)


def test_a_deleted_pipeline_takes_all_its_runs(store):
    for _ in range(3):
        record(store, whole(run := ids.new_id()), run)
    delete(store, "pipeline", "training")
    assert store.count("run", Query(), who=OWNER) == 0
    assert store.find("pipeline", Query(), who=OWNER).items == ()


def test_what_does_not_exist_is_not_deleted(store):
    for kind in ("run", "step", "version", "artifact", "pipeline"):
        with pytest.raises(NotFound):
            delete(store, kind, "nothing")
    assert list(catalogue.read(store.home)) == []


def test_the_same_key_again_changes_nothing(store):
    run = record(store, whole(run := ids.new_id()), run)
    for _ in range(2):
        store.write([Delete("run", run)], key="once", who=OWNER)
    assert len(list(catalogue.read(store.home))) == 1


def test_tags_and_metadata_are_changed(store):
    run = record(store, [started(run := ids.new_id(), tags=("a", "b")), *whole(run)[1:]], run)
    half = values.encode(0.5)
    store.write([Update("run", run, ("c",), ("a",), {"accuracy": half})], key="1", who=OWNER)
    store.write([Update("version", f"{run}.0.0", ("gold",)), Update("step", f"{run}.0", ("slow",))], key="2", who=OWNER)
    for opened in (store, rebuilt(store)):
        found = opened.get("run", run, who=OWNER)
        assert (found.tags, found.metadata) == (("b", "c"), {"accuracy": half})
        assert opened.get("version", f"{run}.0.0", who=OWNER).tags == ("gold",)
        assert opened.get("step", f"{run}.0", who=OWNER).tags == ("slow",)
    opened.write([Update("run", run, metadata={"accuracy": None})], key="3", who=OWNER)
    assert opened.get("run", run, who=OWNER).metadata == {}
    with pytest.raises(ConfigError, match="neither tags nor metadata"):
        opened.write([Update("pipeline", "training", ("x",))], key="4", who=OWNER)


def test_one_bad_change_undoes_the_others(store):
    run = record(store, whole(run := ids.new_id()), run)
    with pytest.raises(NotFound):
        store.write([Delete("run", run), Delete("run", "f" * 32)], key="1", who=OWNER)
    assert store.get("run", run, who=OWNER).id == run


def test_a_change_whose_writer_was_killed_is_applied_by_the_next(store):
    run = record(store, whole(run := ids.new_id()), run)
    entry = catalogue.Entry("k", 1.0, (catalogue.Removed(runs=((run, 1),)),))
    catalogue.append(store.home, entry)
    assert open_store(store.home).count("run", Query(), who=OWNER) == 0


def test_a_bad_tail_of_the_catalogue_is_cut_by_the_next_write(store):
    run = record(store, whole(run := ids.new_id()), run)
    store.write([Update("run", run, ("a",))], key="1", who=OWNER)
    path = store.home / "catalogue"
    with open(path, "ab") as file:
        file.write(b"\x10\0\0\0half")
    store.write([Update("run", run, ("b",))], key="2", who=OWNER)
    assert [entry.key for entry, _end in catalogue.read(store.home)] == ["1", "2"]
    assert rebuilt(store).get("run", run, who=OWNER).tags == ("a", "b")


def test_who_is_not_the_owner_is_refused(store):
    with pytest.raises(Forbidden, match="eve is not the owner"):
        store.find("run", Query(), who=Principal("eve"))


def test_a_rebuilt_database_equals_the_lost_one(store, dump):
    half = values.encode(0.5)
    for number in range(5):
        run = ids.new_id()
        more = StepFinished(
            3.0, 1, inputs={"x": "val:1"}, metadata={"a": half}, run_metadata={"n": values.encode(number)},
            outputs=(
                output(number, artifact="m", version="gold", tags=("t",), metadata={"r": half}),
                output(1, artifact="m"),
            ),
        )  # fmt: skip
        record(
            store, [started(run, tags=("x",)), finished(0, number), more, RunFinished(9.0, RunStatus.COMPLETED)], run
        )
    live = ids.new_id()
    write_live(store.home, live, whole(live)[:4])
    store.get("run", live, who=OWNER)
    before = logical(dump, store)
    opened = rebuilt(store)
    assert logical(dump, opened) == before
    assert opened.get("version", "m:gold", who=OWNER).run != live


def test_a_rebuilt_database_equals_the_lost_one_when_runs_were_interleaved_and_deleted(store, dump):
    runs = [ids.new_id() for _ in range(4)]
    journals = [write_live(store.home, run, [started(run, name="same")]) for run in runs]
    events = encoded([finished(0, 1), finished(1, 2), RunFinished(5.0, RunStatus.COMPLETED)])
    for event in events:
        for _run, (_lock, writer) in reversed(list(zip(runs, journals, strict=True))):
            writer.append(event)
            store.catch_up()
    for lock, _writer in journals:
        lock.release()
    store.catch_up()
    store.write(
        [Update("run", runs[0], ("kept",)), Delete("run", runs[2]), Delete("step", f"{runs[3]}.1")], key="1", who=OWNER
    )
    keep = {
        kind: store.find(kind, Query(limit=100), who=OWNER)
        for kind in ("run", "step", "version", "artifact", "pipeline")
    }
    opened = rebuilt(store)
    for kind, page in keep.items():
        key = "name" if kind == "artifact" else "id"
        found = opened.find(kind, Query(limit=100), who=OWNER)
        assert sorted(found.items, key=lambda item: getattr(item, key)) == sorted(
            page.items, key=lambda item: getattr(item, key)
        )


def test_whoever_has_the_old_database_open_goes_on_with_the_new_one(store):
    run = record(store, whole(run := ids.new_id()), run)
    rebuild_database(store.home, lambda name: b"")
    assert store.get("run", run, who=OWNER).id == run
    second = record(store, whole(run := ids.new_id()), run)
    assert open_store(store.home).get("run", second, who=OWNER).number == 2
    assert len(list(store.home.glob("cupola.db.damaged-*"))) >= 1
