"""Why a step ran or did not: the step as it was compiled now, held against its newest earlier record.

Both sides are made of the same parts (code, literal inputs, options, digests of what it read), so the difference names
the helper, constant, library, parameter or upstream output that caused a miss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import zip_longest

import msgspec

from cupola import values
from cupola.engine.expanded import Expanded
from cupola.engine.grown import Graph, read_graph
from cupola.entities.run import RunRecord, StepRecord, StepStatus
from cupola.errors import NotFound
from cupola.snapshot import CodePart, Collect, FromStep, Literal, Snapshot, Source, StepSpec
from cupola.store import OWNER, ExpansionsOf, StepBefore, StepsOf, Store

LISTED = 10
"""Items of one input that are told one by one; the others are counted."""


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that differs from the earlier record.

    Attributes:
        kind: `function`, `class`, `constant`, `default`, `closure`, `decorator`, `module`, `library`, `python` of code;
            for what is read `parameter`, `input`, `file`, `env`, `option`; `first`, `cache`, `result` for the rest.
        name: What it is called.
        file, line: Where it is defined now, relative to the source root; empty and 0 where that means nothing.
        old, new: What it was and is: a value, a version, or a short digest; empty where there was or is none.
        step: Name of the step that the cause belongs to; for an input's first cause the step upstream.
    """

    kind: str
    name: str
    file: str = ""
    line: int = 0
    old: str = ""
    new: str = ""
    step: str = ""


class CacheReport(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an earlier result stood for a step, and why.

    Attributes:
        hit: Whether it did.
        from_run: Id of the run that made the result; for a miss, of the record it is compared with; empty for neither.
        age_s: How old the result was, in seconds.
        saved_s: How long making it had taken, in seconds.
        causes: For a miss, what differs, the step's own code first.
    """

    hit: bool
    from_run: str = ""
    age_s: float = 0.0
    saved_s: float = 0.0
    causes: tuple[Cause, ...] = ()


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """A step as one run has it: the snapshot, the step in it, where its code stands, and what it read.

    Attributes:
        steps: The steps of the run by position.
        inputs: Digest of each output, file and variable it read; None while that isn't known.
    """

    snapshot: Snapshot
    steps: Expanded
    position: int
    places: tuple[str, ...]
    inputs: Mapping[str, str] | None

    @property
    def spec(self) -> StepSpec:
        """What the step is."""
        return self.steps.spec(self.position)


def explain_step(store: Store, run: RunRecord, name: str) -> CacheReport:
    """Return why a step of a recorded run ran or did not.

    Raises:
        NotFound: The run has no such step.
    """
    return _Run(store, run).report(name)


class _Run:
    """A recorded run with its steps, and those of earlier runs it is compared with, each read once."""

    def __init__(self, store: Store, run: RunRecord) -> None:
        self.store = store
        self.run = run
        graph = read_graph(store, run)
        self.snapshot, self.places = graph.snapshot, graph.places
        self.steps = Expanded(self.snapshot, store.ask(ExpansionsOf(run.id), who=OWNER))
        self.records = {record.name: record for record in store.ask(StepsOf(run.id), who=OWNER)}
        self.history = History(store, run.pipeline, run.number)

    def report(self, name: str) -> CacheReport:
        position = self.steps.position(name)
        if position is None:
            raise NotFound(f"run {self.run.name} has no step {name!r}", fix=f"its steps: {', '.join(self.records)}")
        if self.steps.is_mapped(position):
            return report_children(self.steps, position, lambda child: self.report(self.steps.name(child)))
        record = self.records.get(name)
        if record is not None and record.status is StepStatus.CACHED:
            age_s = max(0.0, (record.started_at or self.run.started_at) - record.made_at)
            return CacheReport(hit=True, from_run=record.from_run, age_s=age_s, saved_s=record.saved_s)
        causes = explain_miss(self._side(name), self.history, self.side_if_run, self.notes(record))
        return CacheReport(hit=False, from_run=self.history.run_of(name), causes=causes)

    def side_if_run(self, name: str) -> Side | None:
        name = self.steps.name(self._first_run(self.steps.position(name) or 0))
        record = self.records.get(name)
        return None if record is not None and record.status is StepStatus.CACHED else self._side(name)

    def _first_run(self, position: int) -> int:
        """Return the first child of a mapped step that ran; any other step itself."""
        for child in self.steps.children.get(position, ()):
            record = self.records.get(self.steps.name(child))
            if record is not None and record.status is not StepStatus.CACHED:
                return child
        return position

    def _side(self, name: str) -> Side:
        record, position = self.records.get(name), self.steps.position(name)
        inputs = record.inputs if record is not None else None
        assert position is not None
        return Side(snapshot=self.snapshot, steps=self.steps, position=position, places=self.places, inputs=inputs)

    @staticmethod
    def notes(record: StepRecord | None) -> tuple[str, ...]:
        return tuple(note for note in record.warnings if "the result of run" in note) if record is not None else ()


class History:
    """The newest earlier record of each step of a pipeline."""

    def __init__(self, store: Store, pipeline: str, before: int) -> None:
        self._store = store
        self._pipeline = pipeline
        self._before = before
        self._sides: dict[str, Side | None] = {}
        self._records: dict[str, StepRecord] = {}
        self._runs: dict[str, tuple[Graph, Expanded]] = {}

    def side(self, name: str) -> Side | None:
        """Return the step as its newest earlier record has it, or None when there is none."""
        if name not in self._sides:
            self._sides[name] = self._find(name)
        return self._sides[name]

    def run_of(self, name: str) -> str:
        """Return the id of the run with that record, empty when there is none."""
        self.side(name)
        return self._records[name].run if name in self._records else ""

    def _find(self, name: str) -> Side | None:
        record = self._store.ask(StepBefore(self._pipeline, name, self._before), who=OWNER)
        if record is None:
            return None
        self._records[name] = record
        if record.run not in self._runs:
            run: RunRecord = self._store.get("run", record.run, who=OWNER)
            graph = read_graph(self._store, run)
            expansions = self._store.ask(ExpansionsOf(run.id), who=OWNER)
            self._runs[record.run] = graph, Expanded(graph.snapshot, expansions)
        graph, steps = self._runs[record.run]
        place = record.position
        return Side(snapshot=graph.snapshot, steps=steps, position=place, places=graph.places, inputs=record.inputs)


def report_children(steps: Expanded, position: int, report: Callable[[int], CacheReport]) -> CacheReport:
    """Return why a mapped step ran or did not: by its first child that ran, or that earlier results stood for all.

    Args:
        steps: The steps of the run.
        position: The mapped step.
        report: Returns why a child ran or did not.
    """
    if position not in steps.children:
        sources = [steps.name(source) for _label, source in steps.sources(position)] or [""]
        cause = Cause(kind="input", name=sources[0], new=NO_CHILDREN_YET, step=sources[0])
        return CacheReport(hit=False, causes=(cause,))
    found = CacheReport(hit=True)
    for child in steps.children[position]:
        one = report(child)
        if not one.hit:
            return one
        age_s = max(found.age_s, one.age_s)
        found = CacheReport(hit=True, from_run=one.from_run, age_s=age_s, saved_s=found.saved_s + one.saved_s)
    return found


NO_CHILDREN_YET = "its children are known when that step has run"
SideOf = Callable[[str], Side | None]
"""Gives another step of the same run by name; None when an earlier result stands for it."""


def explain_miss(now: Side, history: History, side_of: SideOf, notes: tuple[str, ...] = ()) -> tuple[Cause, ...]:
    """Return what differs between a step now and its newest earlier record; behind each input its first cause upstream.

    Args:
        now: The step as it is compiled now.
        history: The earlier records of the pipeline.
        side_of: Gives other steps of the same run.
        notes: What was said of an earlier result that could not be used.
    """
    causes: list[Cause] = []
    for cause in own_causes(now, history, notes):
        causes.append(cause)
        if cause.kind == "input":
            causes += first_causes(cause.step, history, side_of)
    return tuple(dict.fromkeys(causes))


def first_causes(name: str, history: History, side_of: SideOf) -> tuple[Cause, ...]:
    """Return what differs in the first step upstream, beginning with `name`, that differs by more than its inputs."""
    seen: set[str] = set()
    while name and name not in seen:
        seen.add(name)
        side = side_of(name)
        if side is None:
            return ()
        causes = own_causes(side, history)
        rooted = tuple(cause for cause in causes if cause.kind != "input")
        if rooted or not causes:
            return rooted
        name = causes[0].step
    return ()


def own_causes(now: Side, history: History, notes: tuple[str, ...] = ()) -> list[Cause]:
    """Return what differs between a step now and its newest earlier record, not looking upstream."""
    name = now.spec.name
    options = now.snapshot.options[now.spec.options]
    if not options.cache_read:
        return [Cause(kind="cache", name="cache", new="not read (cache=False or --no-cache)", step=name)]
    if now.spec.uncacheable:
        return [Cause(kind="cache", name="uncacheable", new=now.spec.uncacheable, step=name)]
    before = history.side(name)
    if before is None:
        return [Cause(kind="first", name=name, new="no earlier result of this step", step=name)]
    causes = [
        *(compare_code(now, before) if options.cache_code else ()),
        *compare_literals(now, before),
        *compare_options(now, before),
        *compare_inputs(now, before),
    ]
    if not causes:
        said = notes or (UNUSABLE,)
        causes = [Cause(kind="result", name=name, new=note, step=name) for note in said]
    return causes


UNUSABLE = "the earlier result can't be used: it was made with write=False, it expired, or its run was deleted"


def compare_code(now: Side, before: Side) -> list[Cause]:
    """Return the code parts that differ: the step's own function first, then by name."""
    old: dict[tuple[str, str], list[CodePart]] = {}
    for position in before.spec.code:
        part = before.snapshot.parts[position]
        old.setdefault((part.kind, part.name), []).append(part)
    new: dict[tuple[str, str], list[tuple[CodePart, int]]] = {}
    for position in now.spec.code:
        part = now.snapshot.parts[position]
        new.setdefault((part.kind, part.name), []).append((part, position))
    causes: list[Cause] = []
    for key in dict.fromkeys((*new, *old)):
        # Several parts may share a name, such as the lambdas of one module: those that both sides have cancel out.
        were, are = old.get(key, []), new.get(key, [])
        known = {part.digest for part in were} & {part.digest for part, _ in are}
        gone = [part for part in were if part.digest not in known]
        come = [(part, position) for part, position in are if part.digest not in known]
        for was, is_now in zip_longest(gone, come):
            causes.append(_code_cause(key, was, is_now, now))
    return sorted(causes, key=lambda cause: (cause.name != now.spec.source, cause.new == "", cause.name))


def _code_cause(key: tuple[str, str], was: CodePart | None, is_now: tuple[CodePart, int] | None, now: Side) -> Cause:
    part, position = is_now or (None, -1)
    file, line = _place(now.places, position)
    return Cause(
        kind=key[0], name=key[1], file=file, line=line, old=part_text(was), new=part_text(part), step=now.spec.name
    )  # fmt: skip


def part_text(part: CodePart | None) -> str:
    """Return what people compare of a part: its value or version, else the first digits of its digest."""
    if part is None:
        return ""
    return part.text or short_digest(part.digest)


def short_digest(text: str) -> str:
    """Return the first digits of a digest, enough to tell two apart by eye."""
    prefix, _, digits = text.partition(":")
    return f"{prefix}:{digits[:8]}" if digits else text


def _place(places: tuple[str, ...], position: int) -> tuple[str, int]:
    text = places[position] if 0 <= position < len(places) else ""
    file, _, line = text.rpartition(":")
    return (file, int(line)) if line.isdigit() else (text, 0)


def compare_literals(now: Side, before: Side) -> list[Cause]:
    """Return the literal inputs that differ, and inputs that came or went."""
    options = now.snapshot.options[now.spec.options]
    ignored = options.cache_ignore
    if options.cache_key is not None:
        # What the policy's function made of them counts instead, and is compared as an option.
        ignored = tuple(name for name, source in now.spec.inputs.items() if isinstance(source, Literal))
    causes: list[Cause] = []
    for name in dict.fromkeys((*now.spec.inputs, *before.spec.inputs)):
        new, old = now.spec.inputs.get(name), before.spec.inputs.get(name)
        if name in ignored or new == old or not (isinstance(new, Literal) or isinstance(old, Literal)):
            continue
        causes.append(
            Cause(kind="parameter", name=name, old=_source_text(old), new=_source_text(new), step=now.spec.name)
        )
    return causes


def _source_text(source: Source | None) -> str:
    if source is None:
        return ""
    if isinstance(source, Literal):
        text = repr(values.decode(source.value))
        return text if len(text) <= 80 else text[:77] + "..."
    if isinstance(source, Collect):
        return "what the children of a mapped step put out"
    return "an output of another step" if isinstance(source, FromStep) else f"a {source.kind} with outputs"


def compare_options(now: Side, before: Side) -> list[Cause]:
    """Return the options that count for the cache and differ."""
    new, old = now.snapshot.options[now.spec.options], before.snapshot.options[before.spec.options]
    causes: list[Cause] = []
    for name in ("cache_code", "cache_ignore", "cache_key"):
        if getattr(new, name) != getattr(old, name):
            was, is_now = getattr(old, name), getattr(new, name)
            if name == "cache_key":
                was, is_now = (values.decode(data) if data is not None else None for data in (was, is_now))
            causes.append(
                Cause(
                    kind="option", name=name.removeprefix("cache_"), old=repr(was), new=repr(is_now), step=now.spec.name
                )
            )
    causes += [
        Cause(kind="env", name=name, old=old.env.get(name, ""), new=new.env.get(name, ""), step=now.spec.name)
        for name in dict.fromkeys((*new.env, *old.env))
        if new.env.get(name) != old.env.get(name)
    ]
    outputs_now = [(output.name, output.materializer) for output in now.spec.outputs]
    outputs_before = [(output.name, output.materializer) for output in before.spec.outputs]
    if outputs_now != outputs_before:
        causes.append(
            Cause(kind="option", name="outputs", old=repr(outputs_before), new=repr(outputs_now), step=now.spec.name)
        )
    return causes


def compare_inputs(now: Side, before: Side) -> list[Cause]:
    """Return the outputs, files and variables read that differ; `step` of an output's cause is the step upstream."""
    if now.inputs is None or before.inputs is None:
        return []
    causes: list[Cause] = []
    more: dict[str, int] = {}
    upstream = dict(now.steps.sources(now.position))
    # An item in code is told as the parameter that it is.
    literal = {name for name, source in now.spec.inputs.items() if isinstance(source, Literal)}
    ignored = now.snapshot.options[now.spec.options].cache_ignore
    for label in dict.fromkeys((*now.inputs, *before.inputs)):
        new, old = now.inputs.get(label, ""), before.inputs.get(label, "")
        if new == old or label in literal or label.partition("[")[0] in ignored:
            continue
        root = label.partition("[")[0]
        more[root] = more.get(root, 0) + 1
        if more[root] > LISTED:
            continue
        kind, _, rest = label.partition(" ")
        kind, name = (kind, rest) if kind in ("file", "env", "option") and rest else ("input", label)
        step = now.steps.name(upstream[label]) if label in upstream else now.spec.name
        causes.append(Cause(kind=kind, name=name, old=short_digest(old), new=short_digest(new), step=step))
    return causes + [
        Cause(kind="input", name=root, new=f"and {count - LISTED} more of its items", step=now.spec.name)
        for root, count in more.items()
        if count > LISTED
    ]
