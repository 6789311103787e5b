"""Reproducing a run: its code and environment built anew in a scratch folder, run there, and its outputs compared.

Nothing of the user's is touched: the scratch folder has a store of its own, so no result is taken from a cache and no
artifact gets a version.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from cupola.client.connect import Connection
from cupola.client.reading import RunReader
from cupola.client.replay import Replay, Replayed
from cupola.client.reproduction import Changed, FirstDifference, Reproduction
from cupola.client.restored import (
    TOOLS,
    archive_of,
    choose_interpreter,
    distributions_of,
    own_program,
    variables_of,
    working_folder,
)
from cupola.engine.provenance.archive import read_archive, restore_archive
from cupola.engine.provenance.surroundings import parse_distributions
from cupola.entities.run import RunRecord
from cupola.errors import Conflict

_LAST_LETTERS = 2000
_GRACE_S = 15.0
"""How long a run that is stopped gets to end by itself, in seconds."""


def reproduce(reader: RunReader, *, keep: bool = False, show: int | None = None) -> Reproduction:
    """Run a run's pipeline again from its archived code, in a process and store of its own, and compare the outputs.

    Args:
        reader: Of the run.
        keep: Whether the scratch folder is kept to be looked at.
        show: Descriptor that what the pipeline prints goes to; nowhere when left out.

    Raises:
        Conflict: The run isn't over.
        NotFound: Its code wasn't archived.
        Damaged: Parts of the archive are gone.
    """
    record = reader.record()
    if not record.status.is_final:
        raise Conflict(f"run {record.name} is {record.status}", fix="wait until it is over")
    archive = read_archive(
        reader.connection.blobs, archive_of(record, f"to run it with the code as it is now: cupola rerun {record.name}")
    )
    scratch = Path(os.path.realpath(tempfile.mkdtemp(prefix="cupola-reproduce-")))
    notes: list[str] = []
    try:
        restore_archive(archive, reader.connection.blobs, scratch / "source")
        then = distributions_of(reader, record)
        interpreter = choose_interpreter(reader.connection.home, scratch / "source", record, then, notes)
        replayed = _replay(reader, scratch, interpreter, show)
        if archive.left_out and replayed.trouble:
            left_out = ", ".join(entry.path for entry in archive.left_out[:5])
            notes.append(f"not in the archive, and perhaps missed: {left_out}")
        environment = _compare_environments(record, then, replayed)
        compared, difference = _compare(reader, scratch, replayed)
    finally:
        if not keep:
            shutil.rmtree(scratch, ignore_errors=True)
    return Reproduction(
        run=record.id,
        name=record.name,
        compared=compared,
        difference=_explained(difference, environment),
        environment=environment,
        notes=tuple(notes),
        folder=str(scratch) if keep else "",
    )


def _replay(
    reader: RunReader,
    scratch: Path,
    interpreter: tuple[str, Callable[[Mapping[str, str]], dict[str, str]]],
    show: int | None,
) -> Replayed:
    record = reader.record()
    source, result, task = scratch / "source", scratch / "result", scratch / "task"
    root = record.facts.get("root", "")
    replay = Replay(
        record=reader.whole_record(),
        snapshot=reader.snapshot_bytes(),
        root=root,
        source=str(source),
        result=str(result),
        parent=os.getpid(),
    )
    task.write_bytes(msgspec.msgpack.encode(replay))
    python, variables = interpreter
    command = own_program(python, "cupola.client.replay", str(task))
    folder = working_folder(record, source)
    with (scratch / "output").open("w+b") as output:
        status = _run(
            command,
            folder,
            variables_of(variables(os.environ), record, scratch / "source", scratch / "home"),
            show or output,
        )
        if result.exists():
            return msgspec.msgpack.decode(result.read_bytes(), type=Replayed)
        output.seek(0)
        said = output.read()[-_LAST_LETTERS:].decode(errors="replace").strip()
    last = said.rpartition("\n")[2]
    return Replayed(trouble=f"its process ended with status {status}{f': {last}' if last else ''}")


def _run(command: Sequence[str], folder: Path, variables: Mapping[str, str], output: int | IO[bytes]) -> int:
    """Run a program to its end and return its status; a run that is stopped gets the time to say so in its record."""
    errors = None if isinstance(output, int) else subprocess.STDOUT
    with subprocess.Popen(
        command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=errors
    ) as process:
        try:
            return process.wait()
        except BaseException as error:
            if not isinstance(error, KeyboardInterrupt):  # which a terminal sends to both
                process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)
            process.kill()
            raise


def _compare(reader: RunReader, scratch: Path, replayed: Replayed) -> tuple[int, FirstDifference | None]:
    """Return how many outputs were compared, and the first that differs."""
    if not replayed.run:
        first = reader.spec(0).name if reader.snapshot().steps else ""
        return 0, FirstDifference(
            step=first, output="", then=str(reader.record().status), now="not run", reason=replayed.trouble
        )
    new = RunReader(Connection(scratch / "home"), replayed.run)
    compared, steps, again = 0, reader.expanded(), new.expanded()
    reader.steps()
    for position in steps.positions():
        name, place = steps.name(position), again.position(steps.name(position))
        changed = replayed.edited.get(steps.owner(position).name, "")
        old_step = reader.step(position)
        if place is None:
            return compared, FirstDifference(
                step=name, output="", then=str(old_step.status), now="not there", reason=_reason(changed, [], "")
            )
        new_step = new.step(place)
        if old_step.status.has_outputs != new_step.status.has_outputs:
            failure = new_step.failure or old_step.failure
            return compared, FirstDifference(
                step=name,
                output="",
                then=str(old_step.status),
                now=str(new_step.status),
                reason=_reason(changed, [], str(failure or "")),
            )
        before, after = reader.outputs(position), new.outputs(place)
        inputs = [label for label, text in old_step.inputs.items() if new_step.inputs.get(label) != text]
        for output, version in before.items():
            if not version.manifest.stable:
                continue
            compared += 1
            now = after[output].manifest.digest if output in after else "nothing"
            if now != version.manifest.digest:
                reason = _reason(changed, inputs, "")
                then = version.manifest.digest
                return compared, FirstDifference(step=name, output=output, then=then, now=now, reason=reason)
    return compared, None


def _reason(changed: str, inputs: list[str], failure: str) -> str:
    if failure:
        return failure
    if inputs:
        return f"it read something else: {', '.join(inputs)}"
    return f"its code is not what it was: {changed}" if changed else ""


def _explained(difference: FirstDifference | None, environment: tuple[Changed, ...]) -> FirstDifference | None:
    if difference is None or difference.reason:
        return difference
    if environment:
        reason = "its code and inputs are the same; the environment is not"
    else:
        reason = "its code, inputs and environment are the same: the step isn't deterministic"
    return msgspec.structs.replace(difference, reason=reason)


def _compare_environments(record: RunRecord, then: Mapping[str, str], replayed: Replayed) -> tuple[Changed, ...]:
    if not replayed.machine:
        return ()
    now = parse_distributions(replayed.distributions)
    names = ("interpreter", "platform", "cupola")
    changed = [
        Changed(name, record.facts[name], replayed.machine.get(name))
        for name in names
        if name in record.facts and record.facts[name] != replayed.machine.get(name)
    ]
    if then:
        before, after = ({name: text.partition(" @ ")[0] for name, text in side.items()} for side in (then, now))
        changed += [
            Changed(name, before.get(name), after.get(name))
            for name in sorted({*before, *after} - TOOLS)
            if before.get(name) != after.get(name)
        ]
    return tuple(changed)
