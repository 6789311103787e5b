"""The process in which `reproduce` runs a pipeline again: `python -c … TASK`, in a scratch folder, with its own store.

It binds the recorded graph to the functions of the restored code, so parameters and options are those of the run
wherever they were said. Hooks are left out: who they tell of runs has heard of this one.
"""

from __future__ import annotations

import signal
import traceback
from collections.abc import Sequence
from pathlib import Path

import msgspec

from cupola.client.again import find_definition, recorded_arguments
from cupola.client.launching import audience, open_site
from cupola.client.moving import bring_files, move_paths
from cupola.compiler.compile import Compiled
from cupola.compiler.rebind import edited_steps, rebind
from cupola.compiler.requests import Request, compile_request
from cupola.engine.display import make_reporter
from cupola.engine.launch import launch_run
from cupola.engine.processes import die_with_parent
from cupola.engine.provenance.surroundings import read_distributions, read_machine
from cupola.entities.run import RunRecord
from cupola.errors import CupolaError
from cupola.failures import strip_own_frames
from cupola.snapshot import decode_snapshot
from cupola.version import VERSION


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What to run again.

    Attributes:
        record: The run.
        snapshot: Bytes of its graph.
        root: Source root of the run, as it was.
        source: Folder with the restored source tree.
        result: File to write the `Replayed` to.
        parent: The process that waits for it.
    """

    record: RunRecord
    snapshot: bytes
    root: str
    source: str
    result: str
    parent: int


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes:
        run: Id of the run in the store of this process; empty when it didn't come to one.
        trouble: Why not.
        edited: By step, what of its code is not what it was.
        machine: Interpreter and platform, and the version of Cupola.
        distributions: What is installed, as `read_distributions` says it.
    """

    run: str = ""
    trouble: str = ""
    edited: dict[str, str] = {}
    machine: dict[str, str] = {}
    distributions: str = ""


def main(arguments: Sequence[str]) -> int:
    """Run what the file named by the only argument says."""
    task = msgspec.msgpack.decode(Path(arguments[0]).read_bytes(), type=Replay)
    # Its folder is nobody's any more when who asked for it is killed.
    die_with_parent(task.parent, signal.SIGTERM)
    try:
        found = _run(task)
    except CupolaError as error:
        found = Replayed(trouble=error.what)
    except BaseException as error:  # importing the user's code may raise anything; it is what came of it
        strip_own_frames(error)
        traceback.print_exception(error)
        found = Replayed(trouble=f"{type(error).__name__}: {error}")
    around = {**read_machine(), "cupola": VERSION}
    result = msgspec.structs.replace(found, machine=around, distributions=read_distributions())
    Path(task.result).write_bytes(msgspec.msgpack.encode(result))
    return 0


def _run(task: Replay) -> Replayed:
    move_paths(task.root, task.source, task.record.facts.get("file", ""))
    record = msgspec.structs.replace(task.record, facts={**task.record.facts, "root": task.source})
    pipeline = find_definition(record)
    arguments = recorded_arguments(record, pipeline)
    fresh = compile_request(Request(pipeline=pipeline, arguments=arguments, no_cache=True))
    snapshot = decode_snapshot(task.snapshot)
    edited = edited_steps(snapshot, fresh)
    names = {snapshot.steps[position].name: _changed_parts(task.snapshot, fresh, position) for position in edited}
    compiled = _without_hooks(rebind(snapshot, task.snapshot, fresh, edited))
    bring_files(task.root, task.source, compiled)
    facts = {"file": task.record.facts.get("file", ""), "command": f"reproduce {record.id}", "reproduces": record.id}
    launched = launch_run(compiled, open_site(pipeline), audience(), facts, make_reporter())
    return Replayed(run=launched.run, edited=names)


def _changed_parts(data: bytes, fresh: Compiled, position: int) -> str:
    """Return which parts of a step's code are not what they were, in few words."""
    graph = decode_snapshot(data)
    before = {(part.kind, part.name): part for part in (graph.parts[place] for place in graph.steps[position].code)}
    now = fresh.snapshot.parts
    changed = [
        f"{part.kind} {part.name}" + (f" ({old.text} then, {part.text} now)" if old and old.text else "")
        for part in (now[place] for place in fresh.snapshot.steps[position].code)
        if (old := before.get((part.kind, part.name))) is None or old.digest != part.digest
    ]
    return ", ".join(changed[:5]) or "something that it no longer uses"


def _without_hooks(compiled: Compiled) -> Compiled:
    steps = tuple(msgspec.structs.replace(step, hooks={}) for step in compiled.steps)
    program = compiled.program
    if program is not None:
        program = msgspec.structs.replace(program, has_hooks=False)
    return msgspec.structs.replace(compiled, steps=steps, program=program, hooks={}, raise_on_failure=False)
