"""Debugging a step of an earlier run: its code as it ran and its real inputs, in a process of its own.

The step's own store stays as it is: what the step saves, and runs that it starts, go to a scratch store.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType

import msgspec

from cupola.client.debugging import Session
from cupola.client.reading import RunReader
from cupola.client.restored import (
    archive_of,
    choose_interpreter,
    distributions_of,
    own_program,
    variables_of,
    working_folder,
)
from cupola.engine.provenance.archive import read_archive, restore_archive
from cupola.entities.artifact import Manifest
from cupola.entities.run import StepStatus
from cupola.errors import Conflict, NotFound
from cupola.snapshot import FromStep, Gather, Source, StepSpec

_TIMEOUT = "StepTimeout"


def debug(
    reader: RunReader, position: int, *, current: bool, expression: str | None, tell: Callable[[str], None]
) -> int:
    """Open a debugger in a step, or run an expression there; return the exit code of the process that did.

    Args:
        reader: Of the run.
        position: The step.
        current: Whether the code is taken as it is now, and not as it ran.
        expression: Python code to run instead of opening a debugger.
        tell: Is told what a person should know.

    Raises:
        Conflict: The step is one that is mapped, whose children do the work.
        NotFound: Its code was not archived, or an input was never made.
        Damaged: Parts of the archive are gone.
    """
    record = reader.record()
    session = _session(reader, position, expression)
    scratch = Path(os.path.realpath(tempfile.mkdtemp(prefix="cupola-debug-")))
    try:
        source, interpreter = Path(record.facts.get("root", "")), _here()
        if not current:
            remedy = f"with the code as it is now: cupola debug {record.name} {session.name} --current"
            source = scratch / "source"
            restore_archive(
                read_archive(reader.connection.blobs, archive_of(record, remedy)), reader.connection.blobs, source
            )
            notes: list[str] = []
            then = distributions_of(reader, record)
            interpreter = choose_interpreter(reader.connection.home, source, record, then, notes)
            for note in notes:
                tell(note)
        elif not source.is_dir():
            raise NotFound("the source root of the run isn't there any more", where=str(source))
        session = msgspec.structs.replace(session, source=str(source), scratch=str(scratch / "home"), current=current)
        (scratch / "session").write_bytes(msgspec.msgpack.encode(session))
        python, variables = interpreter
        return _attend(
            own_program(python, "cupola.client.debugging", str(scratch / "session")),
            working_folder(record, source),
            variables_of(variables(os.environ), record, source, scratch / "home"),
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _here() -> tuple[str, Callable[[Mapping[str, str]], dict[str, str]]]:
    return sys.executable, dict


def _session(reader: RunReader, position: int, expression: str | None) -> Session:
    spec, step, run = reader.spec(position), reader.step(position), reader.record().name
    if reader.is_mapped(position):
        raise Conflict(
            f"step {spec.name!r} is mapped: its children do the work",
            fix=f"debug one of them: cupola debug {run} '{spec.name}[0]'",
        )
    inputs: dict[str, Source] = {}
    for name, source in spec.inputs.items():
        settled = reader.settle(source)
        if settled is None:
            raise NotFound(
                f"step {spec.name!r} can't be entered: its input {name!r} was never made in run {run}",
                fix=f"see what failed before: cupola show {run}",
            )
        inputs[name] = settled
    failure = step.failure
    raised = step.status is StepStatus.FAILED and failure is not None and not failure.type.endswith(_TIMEOUT)
    return Session(
        record=reader.whole_record(),
        spec=msgspec.structs.replace(spec, inputs=inputs),
        name=spec.name,
        owner=_owner(reader, position, spec),
        position=position,
        options=reader.snapshot().options[spec.options],
        manifests=tuple(_manifests(reader, inputs.values())),
        attempt=max((attempt.number for attempt in step.attempts), default=1),
        failure=str(failure) if raised else "",
        home=str(reader.connection.home),
        expression=expression,
        parent=os.getpid(),
    )


def _owner(reader: RunReader, position: int, spec: StepSpec) -> str:
    """Return the name of the step of the graph that a step is, or is a child of."""
    steps = reader.snapshot().steps
    if position < len(steps):
        return spec.name
    return next(owner.name for owner in steps if position in reader.expanded().children.get(steps.index(owner), ()))


def _manifests(reader: RunReader, sources: Iterable[Source]) -> Iterator[tuple[int, str, Manifest]]:
    for source in sources:
        if isinstance(source, FromStep):
            made = reader.item(source.step, source.output)
            version = None if made is not None else reader.find_output(source)
            manifest = made or (version.manifest if version is not None else None)
            if manifest is not None:
                yield source.step, source.output, manifest
        elif isinstance(source, Gather):
            yield from _manifests(reader, source.items)


def _leave_to_it(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: whoever runs in the terminal has got the signal as well."""


def _attend(command: list[str], folder: Path, variables: Mapping[str, str]) -> int:
    """Run a program in this terminal, and return its exit code; Ctrl-C is for the program."""
    with subprocess.Popen(command, cwd=folder, env=variables) as process:
        before = signal.signal(signal.SIGINT, _leave_to_it)
        try:
            code = process.wait()
        finally:
            signal.signal(signal.SIGINT, before)
            with suppress(ProcessLookupError):
                process.kill()
    return code if code >= 0 else 128 - code
