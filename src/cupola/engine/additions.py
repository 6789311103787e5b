"""What a dynamic pipeline adds to the graph that is being driven: one step for each call, which can start at once."""

from __future__ import annotations

from cupola.compiler.stepcompile import LiveStep
from cupola.engine.desk import Desk, Listener
from cupola.engine.graph import Graph, read_steps
from cupola.engine.later import refuse_later
from cupola.engine.maps import Maps
from cupola.engine.rerun import computes_same
from cupola.engine.resume import Given
from cupola.entities.artifact import Manifest
from cupola.event import Event, StepAdded
from cupola.ids import now
from cupola.snapshot import Addition, StepOptions, encode_addition
from cupola.store import CacheEntry


class Additions:
    """The steps that are added to one run; of a static one there are none.

    Args:
        graph, maps, options, manifests: The driver's own, which grow by the steps.
        desk: What the driver works with.

    Attributes:
        listener: Who decides what follows from the end of a step; None where the driver does.
        apart: The steps that run beside the pipeline function, not in its place.
        kept: Results of an earlier run that stand for steps, as a rerun takes them over.
        forced: Steps that run although the cache may have a result.
    """

    def __init__(
        self,
        graph: Graph,
        maps: Maps,
        desk: Desk,
        options: dict[int, StepOptions],
        manifests: dict[tuple[int, str], Manifest],
        given: Given,
    ) -> None:
        self._graph = graph
        self._maps = maps
        self._recorder = desk.recorder
        self._reporter = desk.reporter
        self._options = options
        self._manifests = manifests
        self.listener: Listener | None = None
        self.apart: set[int] = set()
        self.kept: dict[int, CacheEntry] = {}
        self.forced: set[int] = set()
        self._given = given

    def restore(self) -> None:
        """Put the steps that were added in earlier drives at their positions; none starts before it is taken up."""
        past = self._given.past
        for position, addition in past.additions.items():
            self._put(position, addition)
        for position in past.failures:
            self._graph.block(position)

    def add(self, addition: Addition, live: LiveStep, *, is_apart: bool) -> int:
        """Add a step to the graph; return its position.

        Args:
            addition: The step.
            live: What this process has of it.
            is_apart: Whether it runs beside the pipeline function.

        Raises:
            ConfigError: It asks for what this version can't do.
        """
        refuse_later(addition.spec, (self._options | addition.options)[addition.spec.options])
        position = len(self._graph.steps)
        self.record(StepAdded(now(), position, encode_addition(addition)))
        self._reporter.steps_added(1)
        self._put(position, addition)
        self._choose(position, addition)
        self._bring(position, live, is_apart=is_apart)
        return position

    def take_up(self, position: int, addition: Addition, live: LiveStep, *, is_apart: bool) -> None:
        """Let a step of an earlier drive, which isn't done, start; `addition` is what it is now."""
        if addition.spec != self._graph.steps[position]:
            self.record(StepAdded(now(), position, encode_addition(addition)))
            self._graph.steps[position] = addition.spec
            self._options |= addition.options
        self._bring(position, live, is_apart=is_apart)

    def lend(self, position: int, output: str, manifest: Manifest) -> None:
        """Give what a step made to one that is about to start."""
        self._manifests[position, output] = manifest

    def record(self, event: Event) -> None:
        """Write an event."""
        self._recorder.record(event)

    def warn(self, text: str) -> None:
        """Tell people what they should know of the run."""
        self._reporter.warn(text)

    def _choose(self, position: int, addition: Addition) -> None:
        """Note whether a rerun takes a result over for a step, or runs it whatever the cache has."""
        first, spec = self._given.first, addition.spec
        read, _collected = read_steps(spec)
        known = self._given.calls.get((addition.key, addition.number))
        if (first and spec.name.partition("[")[0] == first) or spec.name == first or self.forced.intersection(read):
            self.forced.add(position)
        elif known is not None and computes_same(spec, known.spec):
            self.kept[position] = known.entry

    def _put(self, position: int, addition: Addition) -> None:
        added = self._graph.add(addition.spec)
        assert added == position, "steps are restored in the order in which they were added"
        self._graph.hold(position)
        self._options |= addition.options

    def _bring(self, position: int, live: LiveStep, *, is_apart: bool) -> None:
        self._maps.know(position, live)
        if is_apart:
            self.apart.add(position)
        self._graph.admit(position)
