"""The plan: what a run would do with each step, and why, without running anything.

Pure over what it is given: the compiled pipeline, what the cache has, and the digests of the files that count.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import msgspec

from cupola.compiler.compile import Compiled
from cupola.compiler.stepcompile import LiveStep
from cupola.engine.cache import CacheLookup, is_known, read_inputs
from cupola.engine.expanded import Expanded
from cupola.engine.explain import CacheReport, Cause, History, Side, explain_miss, report_children
from cupola.engine.fan import child_files, child_specs, item_output, split_inputs, spread_columns
from cupola.engine.graph import read_steps
from cupola.engine.site import Site
from cupola.entities.artifact import Manifest
from cupola.errors import CupolaError
from cupola.event import MapExpanded
from cupola.snapshot import Collect, FromStep, Gather, Snapshot, Source, StepSpec

UNKNOWN = "its children are known when what it is mapped over is"
NEWEST = 2**62
"""A run number that is later than all."""


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a run would do with one step.

    Attributes:
        name: Invocation name.
        position: Where it stands in the run that would be.
        action: `cached`; `run`; or `depends`: it runs unless what comes from upstream turns out to be equal. Of a
            mapped step what its children would do: `cached` only where all of them are.
        from_run, age_s, saved_s: For a cached step, where its result is from.
        inputs: What it reads, by name, as far as known.
        note: What was said of an earlier result that could not be used, or of children that aren't known.
        parent: Name of the mapped step that it is a child of; empty for others.
        children: For a mapped step how many children would do what; None where they aren't known, and for others.
    """

    name: str
    position: int
    action: str
    from_run: str = ""
    age_s: float = 0.0
    saved_s: float = 0.0
    inputs: dict[str, str] | None = None
    note: str = ""
    parent: str = ""
    children: dict[str, int] | None = None


class Plan:
    """What a run would do.

    Attributes:
        pipeline: Name of the pipeline.
        snapshot: What would run.
        steps: What would be done with each step, in the order of the graph, children behind their mapped step.
    """

    def __init__(self, compiled: Compiled, site: Site, expanded: Expanded, steps: Mapping[int, PlannedStep]) -> None:
        self.pipeline = compiled.snapshot.pipeline
        self.snapshot: Snapshot = compiled.snapshot
        self.steps = tuple([steps[position] for position in expanded.positions()])
        self._compiled = compiled
        self._expanded = expanded
        self._at = steps
        self._by_name = {step.name: step for step in self.steps}
        self._history = History(site.store, self.pipeline, NEWEST)

    def __iter__(self) -> Iterator[PlannedStep]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def is_mapped(self, step: PlannedStep) -> bool:
        """Tell whether a step is one that would have children."""
        return self._expanded.is_mapped(step.position)

    def why(self, name: str) -> CacheReport:
        """Return why a step would run or not."""
        return self._why(self._by_name[name])

    def _why(self, step: PlannedStep) -> CacheReport:
        if self.is_mapped(step):
            return report_children(self._expanded, step.position, lambda child: self._why(self._at[child]))
        if step.action == "cached":
            return CacheReport(hit=True, from_run=step.from_run, age_s=step.age_s, saved_s=step.saved_s)
        return CacheReport(hit=False, from_run=self._history.run_of(step.name), causes=self._causes(step))

    def _causes(self, step: PlannedStep) -> tuple[Cause, ...]:
        if step.action == "depends":
            upstream = self._first_undecided(step)
            waits = Cause(kind="input", name=upstream.name, new="known only when that step has run", step=upstream.name)
            return (waits, *self._why(upstream).causes)
        notes = (step.note,) if step.note else ()
        return explain_miss(self._side(step), self._history, self._side_if_run, notes)

    def _first_undecided(self, step: PlannedStep) -> PlannedStep:
        """Return the first step upstream that runs whatever happens; others wait for it."""
        while True:
            places = sorted({place for _label, place in self._expanded.sources(step.position)})
            waiting = [self._at[place] for place in places if self._at[place].action != "cached"]
            if not waiting:
                return step
            step = waiting[0]
            if step.action == "run":
                return step

    def _side(self, step: PlannedStep) -> Side:
        return Side(
            snapshot=self.snapshot,
            steps=self._expanded,
            position=step.position,
            places=self._compiled.places,
            inputs=step.inputs,
        )

    def _side_if_run(self, name: str) -> Side | None:
        step = self._by_name[name]
        for child in self._expanded.children.get(step.position, ()):
            if self._at[child].action != "cached":
                return self._side(self._at[child])
        return None if step.action == "cached" else self._side(step)


def plan_run(compiled: Compiled, site: Site) -> Plan:
    """Return what a run of a compiled pipeline would do now."""
    planner = _Planner(compiled, site)
    for position, spec in enumerate(compiled.snapshot.steps):
        if spec.fan is None:
            planner.plan(position, compiled.steps[position])
        else:
            planner.plan_mapped(position, spec)
    return Plan(compiled, site, planner.expanded, planner.planned)


class _Planner:
    """The plan as far as it is made.

    Attributes:
        expanded: The steps, with the children of mapped ones where these are known.
        planned: What would be done with each, by position.
    """

    def __init__(self, compiled: Compiled, site: Site) -> None:
        self.expanded = Expanded(compiled.snapshot)
        self.planned: dict[int, PlannedStep] = {}
        self._compiled = compiled
        self._site = site
        self._lookup = CacheLookup(site.store, compiled.snapshot, site.blobs)
        self._manifests: dict[tuple[int, str], Manifest] = {}
        self._now = time.time()

    def plan(self, position: int, live: LiveStep, parent: str = "") -> str:
        """Decide what would be done with a step or child; return its action."""
        name, spec = self.expanded.name(position), self._gathered(self.expanded.spec(position))
        if spec is None or not is_known(spec, self._manifests):
            action = "depends" if self.expanded.owner(position).base_key else "run"
            self.planned[position] = PlannedStep(name=name, position=position, action=action, parent=parent)
            return action
        options = self._compiled.snapshot.options[spec.options]
        files = child_files(live, spec).files if live.spreads_files else live.files
        inputs = read_inputs(spec, options, files, self._manifests, self._site.root)
        entry, note = self._lookup.find(spec, options, inputs)
        if entry is None:
            self.planned[position] = PlannedStep(
                name=name, position=position, action="run", inputs=inputs.digests, note=note, parent=parent
            )
            return "run"
        for version in entry.outputs:
            if not version.saved:
                self._manifests[position, version.output] = version.manifest
        self.planned[position] = PlannedStep(
            name=name,
            position=position,
            action="cached",
            from_run=entry.run,
            age_s=max(0.0, self._now - entry.made_at),
            saved_s=entry.duration_s,
            inputs=inputs.digests,
            parent=parent,
        )
        return "cached"

    def plan_mapped(self, position: int, spec: StepSpec) -> None:
        """Decide for the children of a mapped step, where what it is spread over is known."""
        unknown = PlannedStep(
            name=spec.name, position=position, action="depends" if spec.base_key else "run", note=UNKNOWN
        )
        try:
            event = self._expansion(position, spec)
        except CupolaError as error:  # the list can't be taken apart, as the run would say
            self.planned[position] = msgspec.structs.replace(unknown, action="run", note=error.what)
            return
        if event is None:
            self.planned[position] = unknown
            return
        self.expanded.add(event)
        live = self._compiled.steps[position]
        counts: dict[str, int] = {}
        for child in self.expanded.children[position]:
            action = self.plan(child, live, spec.name)
            counts[action] = counts.get(action, 0) + 1
        action = next((word for word in ("run", "depends") if counts.get(word)), "cached")
        self.planned[position] = PlannedStep(
            name=spec.name,
            position=position,
            action=action if counts else "run",
            saved_s=sum(self.planned[child].saved_s for child in self.expanded.children[position]),
            children=counts,
        )

    def _expansion(self, position: int, spec: StepSpec) -> MapExpanded | None:
        """Return the children that a mapped step would have, or None while that isn't known."""
        assert spec.fan is not None
        taken: dict[str, tuple[int, ...]] = {}
        for name in spec.fan.over:
            match spec.inputs[name]:
                case FromStep() as source if (source.step, source.output) not in self._manifests:
                    return None
                case Collect() as source if source.step not in self.expanded.children:
                    return None
                case Collect(allow_failures=True) as source:
                    taken[name] = tuple(self.expanded.children[source.step])
                    if any(self.planned[child].action != "cached" for child in taken[name]):
                        return None
                case _:
                    pass
        annotations = {
            (step, declaration.name): declaration.annotation
            for step in read_steps(spec)[0]
            for declaration in self._compiled.steps[step].declarations
        }
        parameters = self._compiled.steps[position].annotations
        items = split_inputs(spec, self._manifests, annotations, parameters, self._site.blobs)
        columns = spread_columns(position, spec, items, taken, self.expanded.children)
        for name, manifests in items.items():
            for index, manifest in enumerate(manifests):
                self._manifests[position, item_output(name, index)] = manifest
        count = len(child_specs(spec, columns))
        first = len(self.expanded)
        return MapExpanded(self._now, position, first, count, items, taken)

    def _gathered(self, spec: StepSpec) -> StepSpec | None:
        """Return a step with what it collects as lists of outputs; None while it isn't known which these are."""
        if not any(isinstance(source, Collect | Gather) for source in spec.inputs.values()):
            return spec
        inputs = {name: self._gathered_source(source) for name, source in spec.inputs.items()}
        known = {name: source for name, source in inputs.items() if source is not None}
        return msgspec.structs.replace(spec, inputs=known) if len(known) == len(inputs) else None

    def _gathered_source(self, source: Source) -> Source | None:
        if isinstance(source, Collect):
            children = self.expanded.children.get(source.step)
            if children is None:
                return None
            return Gather("list", tuple([FromStep(child, source.output) for child in children]))
        if isinstance(source, Gather):
            items = [self._gathered_source(item) for item in source.items]
            found = tuple([item for item in items if item is not None])
            return Gather(source.kind, found, source.keys) if len(found) == len(items) else None
        return source
