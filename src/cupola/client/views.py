"""Runs, steps and artifact versions as people see them: `Run`, `StepRun`, `ArtifactVersion`.

A `Run` that isn't over asks the store again for every attribute; once over, nothing is asked twice. A `StepRun` is as
of when it was taken from `run.steps`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cupola import client, engine
from cupola.client.connect import Connection, connect
from cupola.client.given import Item, Loadable, resolve
from cupola.client.names import Named
from cupola.client.reading import RunReader
from cupola.client.shown import Attempt, Ran, SnapshotView, decoded, only_output, show_attempt
from cupola.client.stored_version import StoredVersion
from cupola.entities.run import RunRecord, RunStatus, StepRecord, StepStatus
from cupola.event import Usage
from cupola.snapshot import Collect, Source
from cupola.store import OWNER, ConsumersOf
from cupola.text import count, printable, size

if TYPE_CHECKING:
    from cupola import logfile
    from cupola.client.code import Code
    from cupola.client.page import Page
    from cupola.client.reproduction import Reproduction
    from cupola.engine.explain import CacheReport


class ArtifactVersion(StoredVersion):
    """One version of an artifact: a stored value, the step that made it and those that read it."""

    __slots__ = ()

    @property
    def producer(self) -> StepRun:
        """The step that made it."""
        return StepRun(RunReader(self._connection, self.record.run), self.record.step)

    @property
    def consumers(self) -> list[StepRun]:
        """The steps that read a value equal to this one, newest first."""
        found = self._connection.store.ask(ConsumersOf(self.digest), who=OWNER)
        return [StepRun(RunReader(self._connection, step.run), step.position, step) for step in found]

    def page(self) -> Page:
        """Return what is worth saying of the version, as data."""
        producer = self.producer
        return client.describe.describe_version(
            self.record, self.preview(), f"step {producer.name} of run {producer.run.name}"
        )


class StepRun(Ran):
    """One step of a run, as of when it was looked at.

    Attributes:
        record: The record as the store has it.
    """

    __slots__ = ("_reader", "record")

    def __init__(self, reader: RunReader, position: int, record: StepRecord | None = None) -> None:
        self._reader = reader
        self.record = record or reader.step(position)

    def _now(self) -> StepRecord:
        return self.record

    @property
    def id(self) -> str:
        """The id: that of the run, and the step's position."""
        return self.record.id

    @property
    def name(self) -> str:
        """The invocation name, unique within the run."""
        return self.record.name

    @property
    def source(self) -> str:
        """The function, as `module:name`."""
        return self.record.source

    @property
    def run(self) -> Run:
        """The run that the step belongs to."""
        return Run(self._reader)

    @property
    def status(self) -> StepStatus:
        """The state."""
        return self.record.status

    @property
    def inputs(self) -> Named[Loadable]:
        """What it reads by parameter name: artifact versions, constants, or collections of them."""
        return read_values(self._reader, "input", self._reader.spec(self.record.position).inputs, self._where())

    @property
    def outputs(self) -> Named[Any]:
        """What it put out, by output name: a cached step's from another run, a mapped step's as collections."""
        position = self.record.position
        spec = self._reader.spec(position)
        if self._reader.is_mapped(position):
            lists = {output.name: Collect(position, output.name, allow_failures=True) for output in spec.outputs}
            return read_values(self._reader, "output", lists, self._where())
        found = self._reader.outputs(position)
        connection = self._reader.connection
        return Named("output", found, lambda name: ArtifactVersion(connection, found[name]), where=self._where())

    @property
    def output(self) -> Any:
        """The only output: an `ArtifactVersion`; of a mapped step a collection of them.

        Raises:
            NotFound: There is none, or more than one.
        """
        return only_output(self.outputs, f"step {self.name!r}", str(self.status))

    @property
    def saved(self) -> list[ArtifactVersion]:
        """What it saved by name with `save_artifact`."""
        return [ArtifactVersion(self._reader.connection, found) for found in self._reader.saved(self.record.position)]

    @property
    def attempts(self) -> list[Attempt]:
        """Its attempts, oldest first."""
        return [show_attempt(attempt) for attempt in self.record.attempts]

    @property
    def metrics(self) -> dict[str, list[tuple[float, float]]]:
        """What it logged with `log_metrics`: points of step and value, by name."""
        points: dict[str, list[tuple[float, float]]] = {}
        for name, step, value in self.record.metrics:
            points.setdefault(name, []).append((step, value))
        return points

    @property
    def resources(self) -> Usage:
        """What its last attempt used: `cpu_s` seconds of processor time, `peak_bytes` of memory."""
        return Usage(self.record.cpu_s, self.record.peak_bytes)

    @property
    def cache(self) -> CacheReport:
        """Whether an earlier result stood for it, and if not, what had changed."""
        return engine.explain.explain_step(self._reader.connection.store, self._reader.whole_record(), self.record.name)

    def logs(self, *, follow: bool = False) -> logfile.Log | Iterator[logfile.Line]:
        """Return what it printed and logged: text that can be iterated as lines with time, level and stream.

        Args:
            follow: Return an iterator instead, which goes on until the step is over.
        """
        return self._reader.read_logs(self.record.position, follow=follow)

    def page(self) -> Page:
        """Return what is worth saying of the step, as data."""
        reader, position = self._reader, self.record.position
        inputs = {name: short(value) for name, value in self.inputs.items()}
        sources = reader.names_of_sources([self.record])
        children = reader.children().get(position) if reader.is_mapped(position) else None
        return client.describe.describe_step(
            self.record, reader.spec(position), inputs, reader.outputs(position), sources, children
        )

    def __repr__(self) -> str:
        took = client.describe.took(self.record)
        return f"<StepRun {printable(self.name)} {self.status}{f' in {took}' if took else ''}>"

    def _where(self) -> str:
        return f"step {self.name!r} of run {self._reader.id}"


class Run(Ran):
    """One run of a pipeline. While it isn't over, every attribute is as of now."""

    __slots__ = ("_reader",)

    def __init__(self, reader: RunReader) -> None:
        self._reader = reader

    @property
    def reader(self) -> RunReader:
        """What reads the record; for Cupola's own commands."""
        return self._reader

    @property
    def record(self) -> RunRecord:
        """The record as the store has it."""
        return self._reader.record()

    def _now(self) -> RunRecord:
        return self._reader.record()

    @property
    def id(self) -> str:
        """The id, 32 hex digits that sort by time."""
        return self._reader.id

    @property
    def name(self) -> str:
        """The name: that of the pipeline and the end of the id."""
        return self.record.name

    @property
    def pipeline(self) -> str:
        """The name of the pipeline."""
        return self.record.pipeline

    @property
    def status(self) -> RunStatus:
        """The state."""
        return self.record.status

    @property
    def steps(self) -> Named[StepRun]:
        """All steps by invocation name, in the order of the graph, those that haven't begun as `pending`."""
        recorded = self._reader.steps()
        expanded = self._reader.expanded()
        positions = {expanded.name(position): position for position in expanded.positions()}

        def make(name: str) -> StepRun:
            position = positions[name]
            return StepRun(self._reader, position, recorded.get(position) or self._reader.pending(position))

        return Named("step", positions, make, where=f"run {self.id}")

    @property
    def outputs(self) -> Named[Loadable]:
        """What the pipeline function returned, under the names of its annotation; what wasn't made is left out."""
        sources = {output.name: output.source for output in self._reader.returned()}
        return read_values(self._reader, "output", sources, f"run {self.id}")

    @property
    def output(self) -> Any:
        """The only output.

        Raises:
            NotFound: There is none, or more than one.
        """
        return only_output(self.outputs, f"run {self.name!r}", str(self.status))

    @property
    def question(self) -> str:
        """What a paused run waits with; empty for any other."""
        return client.describe.question_of(self.record)

    @property
    def params(self) -> dict[str, Any]:
        """The bound parameters of the pipeline by name."""
        return decoded(self.record.params)

    @property
    def config(self) -> dict[str, Any]:
        """What held in this run, in the shape of a configuration file, and under `origins` where it was said."""
        return client.configuration.read_configuration(self.record, self._reader.snapshot())

    @property
    def snapshot(self) -> SnapshotView:
        """The graph; `.id` is its digest."""
        return SnapshotView(self.record.snapshot, self._reader.snapshot_bytes(), self._reader.snapshot())

    @property
    def facts(self) -> dict[str, str]:
        """What was true around it: host, user, command, versions."""
        return dict(self.record.facts)

    @property
    def code(self) -> Code:
        """Which code it ran: `commit`, `branch`, `remote`, `dirty`, `path`; None where unknown, with the reason."""
        return client.code.read_code(self.record.facts)

    def logs(self, *, step: str | None = None, follow: bool = False) -> logfile.Log | Iterator[logfile.Line]:
        """Return what was printed and logged: text that can be iterated as lines with time, level and stream.

        Args:
            step: Only what this step wrote.
            follow: Return an iterator of lines instead, which goes on until the run or step is over.
        """
        return self._reader.read_logs(None if step is None else self.steps[step].record.position, follow=follow)

    def draw(self, format: str = "text") -> str:  # noqa: A002 — the word that people expect
        """Return the graph with the state of each step, as `text`, `mermaid` or `svg`."""
        statuses = {step.position: step.status for step in self._reader.graph_steps()}
        widths = {position: len(children) for position, children in self._reader.expanded().children.items()}
        return client.draw.draw_snapshot(self._reader.snapshot(), statuses, format, widths)

    def wait(self, timeout: float | None = None) -> Run:
        """Return when the run is over.

        Raises:
            TimeoutError: It isn't over after so many seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.status.is_final:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"run {self.name} is still {self.status} after {timeout:g} s")
            time.sleep(0.05)
        return self

    def cancel(self, wait: float = 30.0) -> None:
        """Ask the process that drives the run to stop it, and return when it has.

        Args:
            wait: How long to wait for the end, in seconds; 0 to leave at once.

        Raises:
            Conflict: The run is over already, or isn't after that time.
        """
        client.cancel.cancel(self._reader, wait_s=wait)

    def answer(self, value: object) -> Run:
        """Answer what a paused run asks, and go on with it in this process.

        Args:
            value: The answer, of the type that the pipeline wants, or a text that stands for it.

        Raises:
            Conflict: It doesn't wait for an answer.
            ConfigError: The answer is not of the wanted type; the run waits on.
            RunFailed: It failed.
        """
        run, error = client.answer.answer(self._reader, value)
        if error is not None:
            raise error
        return run

    def resume(self, *, with_current_code: bool = False) -> Run:
        """Go on, in this process, with a run that failed, was cancelled or lost; what has finished doesn't run again.

        Args:
            with_current_code: Whether steps that aren't finished may run with code that was edited since.

        Raises:
            Conflict: It is complete, or a living process drives it.
            CodeChanged: The code of unfinished steps was edited since.
            RunFailed: It failed again.
        """
        run, error = client.again.resume(self._reader, with_current_code=with_current_code)
        if error is not None:
            raise error
        return run

    def rerun(self, *, from_step: str = "", params: Mapping[str, Any] | None = None) -> Run:
        """Run the pipeline again, in a new run that takes over the results of this one that still hold.

        Args:
            from_step: The step from which on everything runs anew; when left out, what had not finished runs, and
                what other parameters or edited code make different.
            params: Parameters that are changed, by name.

        Raises:
            NotFound: There is no such step.
            RunFailed: It failed.
        """
        run, error = client.again.rerun(self._reader, from_step=from_step, params=params)
        if error is not None:
            raise error
        return run

    def reproduce(self, *, keep: bool = False, show: int | None = None) -> Reproduction:
        """Run it again from its archived code, in a process and store of its own, and compare the outputs.

        Args:
            keep: Whether the scratch folder is kept to be looked at.
            show: Descriptor that what the pipeline prints goes to; nowhere when left out.

        Raises:
            Conflict: It isn't over.
            NotFound: Its code wasn't archived.
            Damaged: Parts of the archive are gone.
        """
        return client.reproduce.reproduce(self._reader, keep=keep, show=show)

    def page(self) -> Page:
        """Return what is worth saying of the run, as data."""
        reader, record = self._reader, self.record
        steps = reader.graph_steps()
        outputs = {name: short(value) for name, value in self.outputs.items()}
        known = reader.children()
        children = {step.position: known.get(step.position) for step in steps if reader.is_mapped(step.position)}
        failed = reader.name(record.failed_step) if record.failed_step >= 0 else ""
        return client.describe.describe_run(
            record, steps, outputs, reader.names_of_sources(steps), children=children, failed=failed
        )

    def __repr__(self) -> str:
        record = self.record
        counted = count(sum(record.steps.values()), "step")
        return f"<Run {printable(record.name)} {record.status}, {counted}, {client.describe.took(record)}>"


def short(value: Loadable) -> str:
    """Return what a value is in few words."""
    if isinstance(value, ArtifactVersion):
        return f"{value.ref} ({value.type}, {size(value.size)})"
    text = str(value.preview())
    return text if len(text) <= client.describe.VALUE_LETTERS else text[: client.describe.VALUE_LETTERS - 1] + "…"


def read_values(reader: RunReader, noun: str, sources: Mapping[str, Source], where: str) -> Named[Loadable]:
    """Return what some wirings of a run stand for, by name; those whose outputs weren't made are left out."""

    def version(step: int, output: str) -> Loadable:
        item = reader.item(step, output)
        if item is not None:
            return Item(item, reader.connection.blobs)
        return ArtifactVersion(reader.connection, reader.outputs(step)[output])

    settled = {name: reader.settle(source) for name, source in sources.items()}
    made = {name: source for name, source in settled.items() if source is not None}
    return Named(noun, made, lambda name: resolve(made[name], version), where=where)


def open_run(run: str, connection: Connection | None = None) -> Run:
    """Return the view of a run by its full id; nothing is read before it is asked for."""
    return Run(RunReader(connection or connect(), run))
