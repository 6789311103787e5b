"""Reading the record of one run: what the store says, laid over what the snapshot says will be.

While a run isn't over, each question asks the store again; once it is over, nothing is asked twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from cupola import journal, logfile
from cupola.client.connect import Connection
from cupola.client.mapped import BADLY, SHOWN, Children, is_bad
from cupola.engine.expanded import Expanded
from cupola.engine.grown import Graph, grow
from cupola.entities.artifact import Manifest, VersionRecord
from cupola.entities.run import RunRecord, StepRecord, StepStatus
from cupola.errors import NotFound
from cupola.snapshot import (
    Collect,
    FromStep,
    Gather,
    Literal,
    RunOutput,
    Snapshot,
    Source,
    StepSpec,
    decode_outputs,
    decode_returned,
    decode_snapshot,
)
from cupola.store import ALL, OWNER, Condition, CountChildren, ExpansionsOf, OutputsOf, Query, SnapshotOf, StepsOf

T = TypeVar("T")
FEW = 8
"""Steps whose outputs are asked for one by one; those of more are read with all that their run made."""


class RunReader:
    """Reads one run; shared by all views of it.

    Attributes:
        connection: The open store and blobs.
        id: Id of the run.
    """

    def __init__(self, connection: Connection, run: str, record: RunRecord | None = None) -> None:
        self.connection = connection
        self.id = run
        self._record = record
        self._snapshot: Snapshot | None = None
        self._expanded: Expanded | None = None
        self._kept: dict[str, Any] = {}
        self._grown_to = -1
        self._items: dict[tuple[int, str], Manifest] = {}

    def record(self) -> RunRecord:
        """Return the run as the store knows it now.

        Raises:
            NotFound: It was deleted meanwhile.
        """
        known = self._record
        if known is None or not known.status.is_final:
            known = self._record = self.connection.store.get("run", self.id, who=OWNER)
        return known

    def forget(self) -> None:
        """Ask anew from now on: the run goes on."""
        self._record = self._snapshot = self._expanded = None
        self._kept.clear()

    def snapshot(self) -> Snapshot:
        """Return the graph of the run."""
        known = self._snapshot
        if known is None or (known.dynamic and self.record().head != self._grown_to):
            known = self._snapshot = self.graph().snapshot
        return known

    def graph(self) -> Graph:
        """Return the graph with all that was added to it while the run went on."""
        record, snapshot = self.record(), decode_snapshot(self.snapshot_bytes())
        self._grown_to = record.head
        graph = grow(snapshot, record, self.steps().values()) if snapshot.dynamic else Graph(snapshot, ())
        self._items = graph.items
        return graph

    def snapshot_bytes(self) -> bytes:
        """Return the bytes of the graph, as they were hashed."""
        record = self.record()
        return self._keep("snapshot", lambda: self.connection.store.ask(SnapshotOf(record.snapshot), who=OWNER))

    def returned(self) -> tuple[RunOutput, ...]:
        """Return what the pipeline function returned; the steps, which may be many, are not read for it."""
        if self.record().returned:
            return decode_returned(self.record().returned)
        return self._snapshot.outputs if self._snapshot is not None else decode_outputs(self.snapshot_bytes())

    def expanded(self) -> Expanded:
        """Return the steps of the graph with the children that mapped ones have by now."""
        known, snapshot = self._expanded, self.snapshot()
        if known is None or not self.record().status.is_final:
            is_mapped = any(spec.fan is not None for spec in snapshot.steps)
            expansions = self.connection.store.ask(ExpansionsOf(self.id), who=OWNER) if is_mapped else ()
            known = self._expanded = Expanded(snapshot, expansions)
        return known

    def spec(self, position: int) -> StepSpec:
        """Return what a step is."""
        return self._at(position).spec(position)

    def is_mapped(self, position: int) -> bool:
        """Tell whether a step is one that has children, or will have them."""
        return self._at(position).is_mapped(position)

    def name(self, position: int) -> str:
        """Return the invocation name of a step."""
        return self._at(position).name(position)

    def _at(self, position: int) -> Expanded:
        """Return the steps with the one at a position: looked up anew only when it isn't among those known."""
        known = self._expanded
        return known if known is not None and known.has(position) else self.expanded()

    def steps(self) -> dict[int, StepRecord]:
        """Return what is recorded of each step so far, by position."""
        return self._keep("steps", lambda: self._steps(ALL))

    def _steps(self, below: int, first: int = 0) -> dict[int, StepRecord]:
        asked = StepsOf(self.id, below, first)
        return {step.position: step for step in self.connection.store.ask(asked, who=OWNER)}

    def graph_steps(self) -> list[StepRecord]:
        """Return the steps of the graph, in order, without the children of mapped ones, of which there may be many."""
        count = len(self.snapshot().steps)
        has_children = "steps" not in self._kept and bool(self.expanded().children)
        recorded = self._keep("graph", lambda: self._steps(count)) if has_children else self.steps()
        return [recorded.get(position) or self.pending(position) for position in range(count)]

    def children(self) -> dict[int, Children]:
        """Return how the children of each mapped step are doing."""
        ranges = self.expanded().children
        if not ranges:
            return {}
        return self._keep("children", lambda: self._children(ranges))

    def _children(self, ranges: Mapping[int, range]) -> dict[int, Children]:
        counts = self.connection.store.ask(CountChildren(self.id), who=OWNER)
        return {
            step: Children(total=len(children), counts=found, badly=self._badly(children) if is_bad(found) else ())
            for step, children in ranges.items()
            for found in (counts.get(step, {}),)
        }

    def _badly(self, children: range) -> tuple[StepRecord, ...]:
        """Return the first of some children that ended badly."""
        where = (
            Condition("run", "eq", self.id),
            Condition("status", "in", BADLY),
            Condition("position", "ge", children.start),
            Condition("position", "lt", children.stop),
        )
        return self.connection.store.find("step", Query(where, sort="number", limit=SHOWN), who=OWNER).items

    def step(self, position: int) -> StepRecord:
        """Return one step: what is recorded of it, else what the snapshot says of it, as pending."""
        if "steps" in self._kept:
            return self.steps().get(position) or self.pending(position)
        found = self._keep(f"step {position}", lambda: self._steps(position + 1, position))
        return found.get(position) or self.pending(position)

    def pending(self, position: int) -> StepRecord:
        """Return a step of which nothing is recorded yet."""
        steps = self._at(position)
        spec = steps.owner(position)
        return StepRecord(
            id=f"{self.id}.{position}",
            run=self.id,
            position=position,
            name=steps.name(position),
            source=spec.source,
            pipeline=self.snapshot().pipeline,
            status=StepStatus.PENDING,
            base_key=spec.base_key,
        )

    def outputs(self, position: int) -> dict[str, VersionRecord]:
        """Return what a step put out, by output name; a cached step's outputs are those of the run they came from."""
        versions = self._versions(self.id, position)
        if not versions:  # all other steps are read only for one that made nothing itself
            step = self.step(position)
            if step.status is StepStatus.CACHED:
                versions = self._versions(step.from_run, step.from_step)
        return {version.output: version for version in versions if not version.saved}

    def saved(self, position: int) -> tuple[VersionRecord, ...]:
        """Return what a step saved by name."""
        return tuple(version for version in self._versions(self.id, position) if version.saved)

    def _versions(self, run: str, step: int) -> tuple[VersionRecord, ...]:
        return self._keep(f"outputs {run} {step}", lambda: self.connection.store.ask(OutputsOf(run, step), who=OWNER))

    def item(self, step: int, output: str) -> Manifest | None:
        """Return an item that a mapped step keeps for its children, or None for another output."""
        if self.snapshot().dynamic:
            return self._items.get((step, output))
        steps = self._at(step)
        return steps.item(step, output) if steps.is_mapped(step) else None

    def settle(self, source: Source) -> Source | None:
        """Return a wiring with what it collects as a list of outputs; None where one of its outputs was not made."""
        match source:
            case Literal():
                return source
            case FromStep():
                made = self.item(source.step, source.output) or self.find_output(source)
                return source if made is not None else None
            case Collect():
                return self._collected(source) if self.is_over(source.step) else None
            case Gather():
                items = [self.settle(item) for item in source.items]
                found = tuple([item for item in items if item is not None])
                return Gather(source.kind, found, source.keys) if len(found) == len(items) else None

    def _collected(self, source: Collect) -> Gather | None:
        """Return what the children of a mapped step that is over put out; None where one of them didn't and has to."""
        children = self.expanded().children.get(source.step, range(0))
        self.bring_outputs(children)
        is_final, recorded = self.record().status.is_final, self.steps()
        done = [child for child in children if child in recorded and recorded[child].status.has_outputs]
        parts = [FromStep(child, source.output) for child in done]
        if is_final:
            # While the run goes on, nobody takes away what it made.
            parts = [part for part in parts if self.find_output(part) is not None]
        return Gather("list", tuple(parts)) if source.allow_failures or len(parts) == len(children) else None

    def bring_outputs(self, positions: Sequence[int]) -> None:
        """Read what many steps of a run that is over put out with few questions, for `outputs` to find."""
        if len(positions) < FEW or not self.record().status.is_final:
            return
        wanted: dict[str, dict[int, str]] = {}
        recorded = self.steps()
        for position in positions:
            step = recorded.get(position)
            if step is None or not step.status.has_outputs:
                continue
            run, made = (step.from_run, step.from_step) if step.status is StepStatus.CACHED else (self.id, position)
            if f"outputs {run} {made}" not in self._kept:
                wanted.setdefault(run, {})[made] = f"outputs {run} {made}"
        for run, names in wanted.items():
            if len(names) < FEW:
                continue
            found: dict[str, list[VersionRecord]] = {name: [] for name in names.values()}
            for version in self.connection.store.ask(OutputsOf(run), who=OWNER):
                if version.step in names:
                    found[names[version.step]].append(version)
            self._kept.update({name: tuple(versions) for name, versions in found.items()})

    def names_of_sources(self, steps: Iterable[StepRecord]) -> dict[str, str]:
        """Return the names of the runs that cached results come from, by id; those that were deleted are left out."""
        names: dict[str, str] = {}
        for run in {step.from_run for step in steps if step.from_run}:
            with suppress(NotFound):
                names[run] = self.connection.store.get("run", run, who=OWNER).name
        return names

    def find_output(self, source: FromStep) -> VersionRecord | None:
        """Return the version that an output of a step has, or None when it was not made."""
        return self.outputs(source.step).get(source.output)

    def whole_record(self) -> RunRecord:
        """Return the run with the places of its code, which lists leave out."""
        return self._keep("whole", lambda: self.connection.store.get("run", self.id, who=OWNER))

    def folder(self) -> Path:
        """Return where the run's journal and log are now."""
        return journal.run_folder(self.connection.home, self.id)

    def log_parts(self, position: int) -> list[logfile.Part]:
        """Return which parts of the workers' logs a step wrote; the part of an attempt that still runs has no end."""
        children = self.expanded().children.get(position, range(0)) if self.is_mapped(position) else range(0)
        recorded = self._steps(children.stop, children.start).values() if children else [self.step(position)]
        parts: list[logfile.Part] = []
        for attempt in (attempt for step in recorded for attempt in step.attempts):
            parts.append((attempt.worker, attempt.log[0], attempt.log[1] if attempt.ended_at is not None else None))
            parts += [(0, start, end) for start, end in attempt.told]
        # No part at all would mean the whole log.
        return parts or [(0, 0, 0)]

    def read_logs(self, step: int | None, *, follow: bool) -> logfile.Log | Iterator[logfile.Line]:
        """Return what the run or one of its steps wrote: as of now, or line by line until it is over."""
        if not follow:
            return logfile.read_log(self.folder(), None if step is None else self.log_parts(step))

        def parts() -> list[logfile.Part] | None:
            return None if step is None else self.log_parts(step)

        return logfile.follow_log(self.folder(), parts, lambda: self.is_over(step))

    def is_over(self, position: int | None = None) -> bool:
        """Tell whether nothing more happens to the run, or to one of its steps."""
        return self.record().status.is_final or (position is not None and self.step(position).status.is_final)

    def _keep(self, name: str, ask: Callable[[], T]) -> T:
        """Answer from memory what can't change any more."""
        if name in self._kept:
            return self._kept[name]
        # Asked before the answer is read, so that an answer that is kept is never older than the end of the run.
        record = self.record()
        answer = ask()
        if record.status.is_final or name == "snapshot":
            self._kept[name] = answer
        return answer
