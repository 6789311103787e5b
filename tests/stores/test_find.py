"""Every filter, sort and reference of every kind; nothing scans."""

from __future__ import annotations

import math

import pytest
from histories import finished, output, record, started, whole

from cupola import ids, values
from cupola.entities.run import Failure, RunStatus
from cupola.errors import Ambiguous, ConfigError, Damaged, NotFound
from cupola.event import RunFinished, StepFailed, StepFinished
from cupola.kinds import KINDS
from cupola.store import OWNER, Condition, Has, Query
from cupola.stores import references, statements
from cupola.stores.sql import open_store

pytestmark = pytest.mark.feature("CORE-03")
HOSTILE = [
    "it's",
    'a"b',
    "100%",
    "a_b",
    "nul\0nul",
    "🦆 é",
    "x" * 500,
    "a:b",
    "a@b",
    "../../etc",
    "a/b.c",
    "a\nb",
    " ",
    "-",
    "?1",
]


@pytest.fixture
def runs(store):
    """Seven runs: two pipelines, one in three fails, each a second apart."""
    made = []
    for number in range(7):
        run = ids.new_id()
        pipeline = "training" if number % 2 else "scoring"
        failed = number % 3 == 0
        result = StepFailed(12.0 + number, 1, Failure("E", "")) if failed else finished(1, number, at=12.0 + number)
        events = [
            started(run, pipeline=pipeline, at=10.0 + number, name=f"run {number}", tags=(f"t{number % 2}",)),
            finished(0, number, at=11.0 + number, run_metadata={"accuracy": values.encode(number / 10)}),
            result,
            RunFinished(13.0 + number, RunStatus.FAILED if failed else RunStatus.COMPLETED),
        ]
        made.append(record(store, events, run))
    return made


def find(store, kind, *where, has=(), **more):
    return store.find(kind, Query(tuple(Condition(*each) for each in where), tuple(has), **more), who=OWNER).items


def numbers(store, *where, **more):
    return [run.number for run in find(store, "run", *where, **more)]


def test_runs_are_found_by_each_filter(store, runs):
    assert numbers(store) == [7, 6, 5, 4, 3, 2, 1]
    assert numbers(store, ("status", "eq", "failed")) == [7, 4, 1]
    assert numbers(store, ("status", "ne", "failed")) == [6, 5, 3, 2]
    assert numbers(store, ("status", "in", ("failed", "lost"))) == [7, 4, 1]
    assert numbers(store, ("pipeline", "eq", "training")) == [6, 4, 2]
    assert numbers(store, ("pipeline", "eq", "nothing")) == []
    assert numbers(store, ("status", "eq", "failed"), ("pipeline", "eq", "training")) == [4]
    assert numbers(store, ("started", "ge", 14.0)) == [7, 6, 5]
    assert numbers(store, ("ended", "lt", 15.0)) == [2, 1]
    assert numbers(store, ("number", "gt", 5)) == [7, 6]
    assert numbers(store, ("id", "starts", runs[2])) == [3]
    assert numbers(store, ("name", "in", ("run 1", "run 4"))) == [5, 2]
    assert numbers(store, ("snapshot", "eq", store.get("run", runs[0], who=OWNER).snapshot)) == [7, 5, 3, 1]
    assert numbers(store, ("project", "eq", "default"), ("status", "eq", "failed")) == [7, 4, 1]
    tag = Has("tag", (Condition("name", "eq", "t1"),))
    assert numbers(store, has=(tag,)) == [6, 4, 2]
    assert numbers(store, ("status", "eq", "failed"), has=(tag,)) == [4]


@pytest.mark.parametrize(
    ("op", "expected"),
    [("gt", [7, 6]), ("ge", [7, 6, 5]), ("lt", [4, 3, 2, 1]), ("eq", [5]), ("ne", [7, 6, 4, 3, 2, 1])],
)
def test_runs_are_found_by_metadata_as_numbers(store, runs, op, expected):
    accuracy = Has("metadata", (Condition("key", "eq", "accuracy"), Condition("value", op, 0.4)))
    assert numbers(store, has=(accuracy,)) == expected


@pytest.mark.parametrize(
    "value",
    [
        0,
        1,
        2,
        -1,
        0.5,
        math.inf,
        -math.inf,
        math.nan,
        True,
        False,
        2**62,
        2**70,
        -(2**70),
        "text",
        "",
        "it's",
        "10",
        "nan",
    ],
)
def test_metadata_is_found_by_its_own_value_and_type(store, value):
    for other in [0, 0.5, True, "text", "10", 2**70, math.nan, None, [1], value]:
        logged = StepFinished(1.0, 0, run_metadata={"k": values.encode(other)})
        record(store, [started(wanted := ids.new_id()), logged, RunFinished(2.0, RunStatus.COMPLETED)], wanted)
    found = find(store, "run", has=(Has("metadata", (Condition("key", "eq", "k"), Condition("value", "eq", value))),))
    assert wanted in [run.id for run in found]
    for run in found:
        stored = values.decode(run.metadata["k"])
        assert stored == value or (stored != stored and value != value)
        assert isinstance(stored, bool) == isinstance(value, bool)


def test_steps_versions_artifacts_and_pipelines_are_found_by_each_filter(store, runs):
    assert [step.id for step in find(store, "step", limit=3)] == [f"{runs[6]}.1", f"{runs[6]}.0", f"{runs[5]}.1"]
    assert len(find(store, "step", ("status", "eq", "failed"))) == 3
    assert len(find(store, "step", ("status", "eq", "completed"))) == 11
    assert len(find(store, "step", ("status", "in", ("failed", "completed")))) == 14
    assert [step.position for step in find(store, "step", ("run", "eq", runs[0]))] == [1, 0]
    assert len(find(store, "step", ("name", "eq", "fit"), ("pipeline", "eq", "training"))) == 3
    assert len(find(store, "step", ("started", "gt", 15.0))) == 5
    assert len(find(store, "step", ("position", "eq", 1))) == 7
    versions = find(store, "version", ("artifact", "eq", "training/0/output"))
    assert [version.version for version in versions] == ["7", "6", "5", "4", "3", "2", "1"]
    assert len(find(store, "version")) == 11
    assert len(find(store, "version", ("run", "eq", runs[1]))) == 2
    assert len(find(store, "version", ("digest", "eq", versions[0].manifest.digest))) == 1
    for field, op, value in [
        ("step", "eq", 1),
        ("output", "eq", "output"),
        ("kind", "eq", ""),
        ("size", "gt", 0),
        ("created", "gt", 0),
    ]:
        assert find(store, "version", (field, op, value))
    assert [item.name for item in find(store, "artifact")] == ["training/1/output", "training/0/output"]
    assert [item.name for item in find(store, "artifact", ("name", "contains", "/1/"))] == ["training/1/output"]
    assert [item.name for item in find(store, "pipeline", sort="name")] == ["scoring", "training"]
    assert [item.runs for item in find(store, "pipeline", ("name", "starts", "sco"))] == [4]


@pytest.mark.parametrize(
    ("kind", "sort"),
    [(kind.name, way + sort.name) for kind in KINDS.values() for sort in kind.sorts for way in ("", "-")],
)
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_pages_in_every_order_hold_everything_once(store, runs, kind, sort, limit):
    fixed = (Condition("artifact", "eq", "training/0/output"),) if KINDS[kind].sort(sort.lstrip("-")).within else ()
    pages, cursor = [], ""
    while True:
        page = store.find(kind, Query(fixed, sort=sort, limit=limit, cursor=cursor), who=OWNER)
        pages.extend(page.items)
        cursor = page.next
        if not cursor:
            break
    everything = store.find(kind, Query(fixed, limit=100), who=OWNER).items
    assert sorted(item.id for item in pages) == sorted(item.id for item in everything)
    backwards = store.find(
        kind, Query(fixed, sort=sort.lstrip("-") if sort[0] == "-" else "-" + sort, limit=100), who=OWNER
    )
    assert [item.id for item in pages] == [item.id for item in backwards.items][::-1]


def test_walking_and_collecting_find_the_same(store, runs, monkeypatch):
    questions = [
        ("run", (("status", "eq", "failed"),), ()),
        ("run", (("pipeline", "eq", "training"), ("started", "gt", 11.0)), ()),
        ("run", (), (Has("tag", (Condition("name", "eq", "t1"),)),)),
        ("run", (), (Has("metadata", (Condition("key", "eq", "accuracy"), Condition("value", "gt", 0.2))),)),
        ("step", (("status", "eq", "failed"),), ()),
        ("version", (("artifact", "eq", "training/0/output"),), ()),
    ]
    collected = [find(store, kind, *where, has=has) for kind, where, has in questions]
    counted = [
        store.count(kind, Query(tuple(Condition(*each) for each in where), has), who=OWNER)
        for kind, where, has in questions
    ]
    monkeypatch.setattr(statements, "FEW", 0)
    assert [find(store, kind, *where, has=has) for kind, where, has in questions] == collected
    assert counted == [len(items) for items in collected]


def test_counting_stops_at_its_bound(store, runs):
    assert store.count("run", Query(), who=OWNER) == 7
    assert store.count("run", Query(), who=OWNER, bound=3) == 3


def test_wrong_questions_name_what_is_right(store):
    for question, message in [
        (Query((Condition("colour", "eq", 1),)), "runs have no field 'colour'\nuse one of: id, name"),
        (Query((Condition("status", "lt", "x"),)), "'lt' doesn't work on runs' status\nuse one of: eq, ne, in"),
        (Query(sort="size"), "runs can't be sorted by 'size'\nuse one of: number, started, name"),
        (Query(cursor="zzz"), "'zzz' is no cursor of this list"),
        (Query(has=(Has("friend", ()),)), "runs have no friend\nthey have: tag, metadata"),
    ]:
        with pytest.raises(ConfigError) as caught:
            store.find("run", question, who=OWNER)
        assert message in str(caught.value)
    with pytest.raises(ConfigError, match="only within one artifact"):
        store.find("version", Query(sort="version"), who=OWNER)
    with pytest.raises(ConfigError, match="there is no kind 'dog'"):
        store.find("dog", Query(), who=OWNER)


def test_references_mean_one_thing(store, runs):
    run = runs[3]
    assert store.get("run", run, who=OWNER).id == run
    assert store.get("run", run[:-4], who=OWNER).id == run
    assert store.get("run", "run 3", who=OWNER).id == run
    assert store.get("step", f"{run}/fit", who=OWNER).position == 1
    assert store.get("step", f"{run}.1", who=OWNER).name == "fit"
    assert store.get("step", "run 3/load", who=OWNER).id == f"{run}.0"
    version = store.get("version", "training/0/output:3", who=OWNER)
    assert (version.run, version.number) == (runs[2], 3)
    assert store.get("version", version.id, who=OWNER) == version
    for digest in (version.manifest.digest, version.manifest.digest[4:], version.manifest.digest[4:12]):
        assert store.get("version", f"training/0/output@{digest}", who=OWNER) == version
    assert store.get("version", "training/0/output", who=OWNER).version == "7"
    assert store.get("version", "training/0/output:latest", who=OWNER).version == "7"
    assert store.get("pipeline", "train", who=OWNER).name == "training"
    assert store.get("artifact", "training/0", who=OWNER).latest == "7"


def test_references_that_mean_several_or_nothing_say_so(store, runs):
    with pytest.raises(Ambiguous, match=r"means several runs: .*, …"):
        store.get("run", runs[0][:5], who=OWNER)
    with pytest.raises(NotFound, match="there is no run 'run 33'; did you mean 'run 3'"):
        store.get("run", "run 33", who=OWNER)
    with pytest.raises(NotFound, match="did you mean 'training'"):
        store.get("pipeline", "trainign", who=OWNER)
    with pytest.raises(NotFound, match="has no version"):
        store.get("version", "training/0/output:99", who=OWNER)
    with pytest.raises(NotFound, match="there is no step"):
        store.get("step", f"{runs[0]}/nothing", who=OWNER)
    with pytest.raises(Ambiguous, match="training/0/output, training/1/output"):
        store.get("artifact", "training/", who=OWNER)
    for kind in KINDS:
        for ref in ["", " ", "'; DROP TABLE run; --", "%", "\0", "x" * 1000, "\udcff"]:
            with pytest.raises((NotFound, Ambiguous)):
                store.get(kind, ref, who=OWNER)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_kept_told_apart_and_found(store, name):
    other = record(store, whole(run := ids.new_id()), run)
    run = ids.new_id()
    events = [
        started(run, ("load", name), pipeline=name, name=name, tags=(name,)),
        StepFinished(
            1.0, 1, outputs=(output(1, name, name, version=name, tags=(name,), kind=name),), tags=(name,),
            metadata={name: values.encode(name)}, run_metadata={name: values.encode(name)},
        ),
        RunFinished(2.0, RunStatus.COMPLETED),
    ]  # fmt: skip
    record(store, events, run)
    assert store.get("run", name, who=OWNER).id == run
    assert store.get("step", f"{run}/{name}", who=OWNER).name == name
    assert store.get("pipeline", name, who=OWNER).name == name
    assert store.get("artifact", name, who=OWNER).name == name
    assert store.get("version", name, who=OWNER).version == name
    assert store.get("version", f"{name}:{name}", who=OWNER).artifact == name
    for kind, field in [
        ("run", "name"),
        ("run", "pipeline"),
        ("version", "artifact"),
        ("version", "output"),
        ("artifact", "name"),
        ("pipeline", "name"),
        ("step", "name"),
    ]:
        found = find(store, kind, (field, "eq", name))
        assert len(found) == 1, (kind, field)
        assert other not in found[0].id
    assert [item.name for item in find(store, "artifact", ("name", "starts", name))] == [name]
    for kind in ("run", "step", "version"):
        assert len(find(store, kind, has=(Has("tag", (Condition("name", "eq", name),)),))) == 1
    same = (Condition("key", "eq", name), Condition("value", "eq", name))
    assert [item.id for item in find(store, "run", has=(Has("metadata", same),))] == [run]


def plans(store, kind, query):
    """Return how SQLite goes through its tables for a page."""
    db = store._database.reading()
    statement, _sort = statements.compile_page(db, KINDS[kind], query)
    return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement.sql}", statement.values)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("few", [0, 1000])
def test_no_page_is_sorted_or_scanned_that_need_not_be(store, runs, kind, few, monkeypatch):
    monkeypatch.setattr(statements, "FEW", few)
    for sort in KINDS[kind].sorts:
        fixed = (Condition("artifact", "eq", "training/0/output"),) if sort.within else ()
        for way in ("", "-"):
            if sort.within and few:
                continue
            text = "\n".join(plans(store, kind, Query(fixed, sort=way + sort.name)))
            assert "TEMP B-TREE" not in text, (sort.name, text)
            assert not sort.index or sort.index in text, (sort.name, text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_that_has_an_index_starts_from_it(store, runs, kind):
    known = {"run": runs[0], "id": runs[0], "pipeline": "training", "artifact": "training/0/output"}
    for field in KINDS[kind].fields:
        if field.index and field.type == "text":
            condition = Condition(field.name, "eq", known.get(field.name, "failed"))
            text = "\n".join(plans(store, kind, Query((condition,))))
            by_key = field.name == "run" and "PRIMARY KEY (run=?" in text
            assert field.index in text or by_key, (field.name, text)
            assert "SCAN" not in text, (field.name, text)


def test_every_column_and_index_that_kinds_name_is_in_the_schema(store):
    db = store._database.reading()
    indexes = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    for kind in KINDS.values():
        names = [*kind.key, *(field.column for field in kind.fields)]
        names += [column for sort in kind.sorts for column in sort.columns]
        for table, _, column in (name.partition(".") for name in names):
            assert column in [row[1] for row in db.execute(f"PRAGMA table_info({table})")], (table, column)
        for index in [*(field.index for field in kind.fields), *(sort.index for sort in kind.sorts)]:
            assert not index or index in indexes, index


def test_each_kind_can_be_referred_to_and_read(store):
    assert set(references._FINDERS) == set(KINDS) == set(statements.FROM) == set(statements.COLUMNS)


def test_values_that_no_row_can_have_find_nothing(store, runs):
    for where in [
        ("number", "eq", 2**70),
        ("number", "gt", 2**70),
        ("name", "eq", "\udcff"),
        ("pipeline", "eq", "\udcff"),
    ]:
        assert find(store, "run", where) == ()
    assert len(find(store, "run", ("number", "lt", 2**70))) == 7


def test_damage_in_the_middle_of_the_database_is_told(store):
    for _ in range(100):
        record(store, whole(run := ids.new_id()), run)
    store.checkpoint()
    store.close()
    path = store.home / "cupola.db"
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    for name in ("cupola.db-wal", "cupola.db-shm"):
        (store.home / name).unlink(missing_ok=True)
    with pytest.raises(Damaged, match="cupola doctor store --rebuild"):
        open_store(store.home).find("run", Query(), who=OWNER)
