"""The plan: what a run would do with each step, and why, without running anything.

Pure over what it is given: the compiled pipeline, what the cache has, and the digests of the files that count.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec

from cupola.compiler.compile import Compiled
from cupola.engine.cache import CacheLookup, is_known, read_inputs
from cupola.engine.explain import CacheReport, Cause, History, Side, explain_miss
from cupola.engine.site import Site
from cupola.entities.artifact import Manifest
from cupola.snapshot import FromStep, Gather, Snapshot, Source

NEWEST = 2**62
"""A run number that is later than all."""


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a run would do with one step.

    Attributes:
        name: Invocation name.
        action: `cached`; `run`; or `depends`: it runs unless what comes from upstream turns out to be equal.
        from_run, age_s, saved_s: For a cached step, where its result is from.
        inputs: What it reads, by name, as far as known.
        note: What was said of an earlier result that could not be used.
    """

    name: str
    action: str
    from_run: str = ""
    age_s: float = 0.0
    saved_s: float = 0.0
    inputs: dict[str, str] | None = None
    note: str = ""


class Plan:
    """What a run would do.

    Attributes:
        pipeline: Name of the pipeline.
        snapshot: What would run.
        steps: What would be done with each step, in order.
    """

    def __init__(self, compiled: Compiled, site: Site, steps: tuple[PlannedStep, ...]) -> None:
        self.pipeline = compiled.snapshot.pipeline
        self.snapshot: Snapshot = compiled.snapshot
        self.steps = steps
        self._compiled = compiled
        self._by_name = {step.name: place for place, step in enumerate(steps)}
        self._history = History(site.store, self.pipeline, NEWEST)

    def __iter__(self) -> Iterator[PlannedStep]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def why(self, name: str) -> CacheReport:
        """Return why a step would run or not."""
        step = self.steps[self._by_name[name]]
        if step.action == "cached":
            return CacheReport(hit=True, from_run=step.from_run, age_s=step.age_s, saved_s=step.saved_s)
        return CacheReport(hit=False, from_run=self._history.run_of(name), causes=self._causes(name))

    def _causes(self, name: str) -> tuple[Cause, ...]:
        place = self._by_name[name]
        step = self.steps[place]
        if step.action == "depends":
            upstream = self._first_undecided(place)
            waits = Cause(kind="input", name=upstream, new="known only when that step has run", step=upstream)
            return (waits, *self._causes(upstream))
        notes = (step.note,) if step.note else ()
        return explain_miss(self._side(place), self._history, self._side_if_run, notes)

    def _first_undecided(self, place: int) -> str:
        """Return the first step upstream that runs whatever happens; others wait for it."""
        while True:
            waiting = (source for source in sorted(_read_steps(self.snapshot, place)))
            place = next(source for source in waiting if self.steps[source].action != "cached")
            if self.steps[place].action == "run":
                return self.steps[place].name

    def _side(self, place: int) -> Side:
        spec = self.snapshot.steps[place]
        return Side(snapshot=self.snapshot, spec=spec, places=self._compiled.places, inputs=self.steps[place].inputs)

    def _side_if_run(self, name: str) -> Side | None:
        place = self._by_name[name]
        return None if self.steps[place].action == "cached" else self._side(place)


def plan_run(compiled: Compiled, site: Site) -> Plan:
    """Return what a run of a compiled pipeline would do now."""
    snapshot = compiled.snapshot
    lookup = CacheLookup(site.store, snapshot, site.blobs)
    manifests: dict[tuple[int, str], Manifest] = {}
    planned: list[PlannedStep] = []
    now = time.time()
    for position, spec in enumerate(snapshot.steps):
        if not is_known(spec, manifests):
            planned.append(PlannedStep(name=spec.name, action="depends" if spec.base_key else "run"))
            continue
        options = snapshot.options[spec.options]
        inputs = read_inputs(spec, options, compiled.steps[position].files, manifests, site.root)
        entry, note = lookup.find(spec, options, inputs)
        if entry is None:
            planned.append(PlannedStep(name=spec.name, action="run", inputs=inputs.digests, note=note))
            continue
        for version in entry.outputs:
            if not version.saved:
                manifests[position, version.output] = version.manifest
        planned.append(
            PlannedStep(
                name=spec.name,
                action="cached",
                from_run=entry.run,
                age_s=max(0.0, now - entry.made_at),
                saved_s=entry.duration_s,
                inputs=inputs.digests,
            )
        )
    return Plan(compiled, site, tuple(planned))


def _read_steps(snapshot: Snapshot, place: int) -> set[int]:
    found: set[int] = set()
    pending: list[Source] = list(snapshot.steps[place].inputs.values())
    while pending:
        source = pending.pop()
        if isinstance(source, FromStep):
            found.add(source.step)
        elif isinstance(source, Gather):
            pending += source.items
    return found
