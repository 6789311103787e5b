"""Reproducing a run: its code and environment built anew in a scratch folder, run there, and its outputs compared.

Nothing of the user's is touched: the scratch folder has a store of its own, so no result is taken from a cache and no
artifact gets a version.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from cupola.client.connect import Connection
from cupola.client.reading import RunReader
from cupola.client.replay import Replay, Replayed, moved
from cupola.client.reproduction import Changed, FirstDifference, Reproduction
from cupola.engine.environment import prepare
from cupola.engine.provenance.archive import read_archive, restore_archive
from cupola.engine.provenance.facts import UNKNOWN
from cupola.engine.provenance.masking import MASK
from cupola.engine.provenance.surroundings import parse_distributions, read_distributions
from cupola.entities.run import RunRecord
from cupola.errors import Conflict, CupolaError, NotFound

_PACKAGES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_TOOLS = frozenset({"pip", "setuptools", "wheel", "uv", "cupola"})
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
    archive = read_archive(reader.connection.blobs, _archive_of(record))
    scratch = Path(os.path.realpath(tempfile.mkdtemp(prefix="cupola-reproduce-")))
    notes: list[str] = []
    try:
        restore_archive(archive, reader.connection.blobs, scratch / "source")
        then = _distributions_of(reader, record)
        interpreter = _choose_interpreter(reader.connection.home, scratch / "source", record, then, notes)
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


def _archive_of(record: RunRecord) -> str:
    archive = record.blobs.get("archive")
    if archive is None:
        why = record.facts.get(f"{UNKNOWN}source", "it ended before that was done")
        raise NotFound(
            f"the code of run {record.name} was not archived: {why}",
            fix=f"to run it with the code as it is now: cupola rerun {record.name}",
        )
    return archive


def _distributions_of(reader: RunReader, record: RunRecord) -> dict[str, str]:
    name = record.blobs.get("distributions")
    return parse_distributions(reader.connection.blobs.open(name).read_text(encoding="utf-8")) if name else {}


def _choose_interpreter(
    home: Path, source: Path, record: RunRecord, then: Mapping[str, str], notes: list[str]
) -> tuple[str, Callable[[Mapping[str, str]], dict[str, str]]]:
    """Return the interpreter to run with, and what makes its variables: the recorded environment, else this one."""
    now = parse_distributions(read_distributions())
    python = record.facts.get("python", "")
    is_other_python = python.split(".")[:2] != sys.version.split()[0].split(".")[:2]
    wanted = {name: version for name, version in then.items() if name not in _TOOLS and " @ " not in version}
    differs = [name for name, version in wanted.items() if now.get(name) != version]
    if (not differs and not is_other_python) or not then:
        return sys.executable, dict
    lines = [f"{name}=={version}" for name, version in sorted(wanted.items())]
    try:
        made = prepare(lines, python=python if is_other_python else "", home=home, root=source, where="reproduce")
    except CupolaError as error:
        notes.append(f"run with the current environment, since the recorded one can't be built: {error.what}")
        return sys.executable, dict
    return made.python, made.variables


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
    # `-P`: modules of the user's with our names must not come first.
    program = "import sys; sys.path.append({!r}); from cupola.client.replay import main; sys.exit(main(sys.argv[1:]))"
    command = [python, "-P", "-c", program.format(_PACKAGES if python == sys.executable else ""), str(task)]
    folder = Path(moved(record.facts.get("folder", ""), root, str(source)) or source)
    folder.mkdir(parents=True, exist_ok=True)
    with (scratch / "output").open("w+b") as output:
        status = _run(command, folder, _variables(variables(os.environ), record, scratch), show or output)
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


def _variables(base: dict[str, str], record: RunRecord, scratch: Path) -> dict[str, str]:
    """Return the variables of the new process: this one's, with those that the run's steps declared as they were."""
    kept = {name: value for name, value in base.items() if not name.startswith("CUPOLA_")}
    root, source = record.facts.get("root", ""), str(scratch / "source")
    if "PYTHONPATH" in kept:
        entries = kept["PYTHONPATH"].split(os.pathsep)
        kept["PYTHONPATH"] = os.pathsep.join(moved(entry, root, source) or entry for entry in entries)
    declared = msgspec.json.decode(record.facts.get("env", "{}"), type=dict[str, str | None])
    for name, value in declared.items():
        if value is None:
            kept.pop(name, None)
        elif MASK not in value:
            kept[name] = value
    progress = {name: base[name] for name in ("CUPOLA_PROGRESS", "CUPOLA_LOG_LEVEL") if name in base}
    own = {"CUPOLA_HOME": str(scratch / "home"), "CUPOLA_ROOT": source, "CUPOLA_PROJECT": record.project}
    return {**kept, **progress, **own}


def _compare(reader: RunReader, scratch: Path, replayed: Replayed) -> tuple[int, FirstDifference | None]:
    """Return how many outputs were compared, and the first that differs."""
    if not replayed.run:
        first = reader.spec(0).name if reader.snapshot().steps else ""
        return 0, FirstDifference(
            step=first, output="", then=str(reader.record().status), now="not run", reason=replayed.trouble
        )
    new = RunReader(Connection(scratch / "home"), replayed.run)
    compared = 0
    for position, spec in enumerate(reader.snapshot().steps):
        old_step, new_step = reader.step(position), new.step(position)
        changed = replayed.edited.get(spec.name, "")
        if old_step.status.has_outputs != new_step.status.has_outputs:
            failure = new_step.failure or old_step.failure
            return compared, FirstDifference(
                step=spec.name,
                output="",
                then=str(old_step.status),
                now=str(new_step.status),
                reason=_reason(changed, [], str(failure or "")),
            )
        before, after = reader.outputs(position), new.outputs(position)
        inputs = [name for name, text in old_step.inputs.items() if new_step.inputs.get(name) != text]
        for name, version in before.items():
            if not version.manifest.stable:
                continue
            compared += 1
            now = after[name].manifest.digest if name in after else "nothing"
            if now != version.manifest.digest:
                reason = _reason(changed, inputs, "")
                then = version.manifest.digest
                return compared, FirstDifference(step=spec.name, output=name, then=then, now=now, reason=reason)
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
            for name in sorted({*before, *after} - _TOOLS)
            if before.get(name) != after.get(name)
        ]
    return tuple(changed)
