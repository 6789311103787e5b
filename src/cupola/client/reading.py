"""Reading the record of one run: what the store says, laid over what the snapshot says will be.

While a run isn't over, each question asks the store again; once it is over, nothing is asked twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from cupola import journal, logfile
from cupola.client.connect import Connection
from cupola.entities.artifact import VersionRecord
from cupola.entities.run import RunRecord, StepRecord, StepStatus
from cupola.errors import NotFound
from cupola.snapshot import FromStep, RunOutput, Snapshot, StepSpec, decode_outputs, decode_snapshot
from cupola.store import OWNER, OutputsOf, SnapshotOf, StepsOf

T = TypeVar("T")


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
        self._positions: dict[str, int] = {}
        self._kept: dict[str, Any] = {}

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
        self._record = self._snapshot = None
        self._kept.clear()
        self._positions.clear()

    def snapshot(self) -> Snapshot:
        """Return the graph of the run."""
        if self._snapshot is None:
            self._snapshot = decode_snapshot(self.snapshot_bytes())
        return self._snapshot

    def snapshot_bytes(self) -> bytes:
        """Return the bytes of the graph, as they were hashed."""
        record = self.record()
        return self._keep("snapshot", lambda: self.connection.store.ask(SnapshotOf(record.snapshot), who=OWNER))

    def returned(self) -> tuple[RunOutput, ...]:
        """Return what the pipeline function returned; the steps, which may be many, are not read for it."""
        return self._snapshot.outputs if self._snapshot is not None else decode_outputs(self.snapshot_bytes())

    def spec(self, position: int) -> StepSpec:
        """Return what the snapshot says of a step."""
        return self.snapshot().steps[position]

    def position(self, name: str) -> int:
        """Return the position of a step by its invocation name."""
        if not self._positions:
            self._positions = {spec.name: position for position, spec in enumerate(self.snapshot().steps)}
        return self._positions[name]

    def steps(self) -> dict[int, StepRecord]:
        """Return what is recorded of each step so far, by position."""
        return self._keep("steps", lambda: {
            step.position: step for step in self.connection.store.ask(StepsOf(self.id), who=OWNER)
        })  # fmt: skip

    def step(self, position: int) -> StepRecord:
        """Return one step: what is recorded of it, else what the snapshot says of it, as pending."""
        return self.steps().get(position) or self.pending(position)

    def pending(self, position: int) -> StepRecord:
        """Return a step of which nothing is recorded yet."""
        spec = self.spec(position)
        return StepRecord(
            id=f"{self.id}.{position}",
            run=self.id,
            position=position,
            name=spec.name,
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
        attempts = self.step(position).attempts
        # No part at all would mean the whole log.
        return [(a.worker, a.log[0], a.log[1] if a.ended_at is not None else None) for a in attempts] or [(0, 0, 0)]

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
