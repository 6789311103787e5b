"""The process in which a step is debugged: `python -c … SESSION`, in the run's source tree, at the user's terminal.

A step that failed is run until it raises, and the debugger opens at the frame of the project that raised, or that
called what did. Every other step is stopped at the start of its function. Nothing of it is recorded.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value
from cupola.client.again import find_definition, import_module_of, recorded_arguments
from cupola.client.connect import Connection
from cupola.client.frames import (
    NOTHING,
    deepest_of_project,
    evaluate_at,
    evaluate_lazily,
    open_after,
    open_at_start,
    show_result,
)
from cupola.client.moving import bring_files, move_paths
from cupola.compiler.callsite import call_site
from cupola.compiler.compile import Compiled
from cupola.compiler.dynamic import Calls, Program
from cupola.compiler.nodes import Callee, Node, StepDefinition
from cupola.compiler.requests import Request, compile_request
from cupola.compiler.signature import read_signature
from cupola.compiler.stepcompile import LiveStep
from cupola.context import ArtifactAccess, PipelineInfo, RunInfo, StepContext, StepInfo, enter_step
from cupola.engine.processes import die_with_parent
from cupola.engine.site import artifact_access
from cupola.entities.artifact import Manifest, VersionRecord
from cupola.entities.run import RunRecord
from cupola.errors import CupolaError, NotFound
from cupola.failures import strip_own_frames
from cupola.files import set_source_root
from cupola.snapshot import StepOptions, StepSpec
from cupola.store import OWNER
from cupola.text import printable
from cupola.worker import Task, await_result, load_input


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What to debug.

    Attributes:
        record: The run.
        spec: The step, with its inputs settled.
        name: Its invocation name; `owner` is that of the step of the graph that it is a child of, or its own.
        position: Its position in the run.
        options: Its options.
        manifests: The stored outputs that it reads, by position and output name.
        attempt: Number of its last attempt.
        failure: How it failed; empty when it is to be stopped at its start.
        home: Folder of the store of the run; `scratch` is one for what the step does.
        source: Folder with the source tree.
        current: Whether the source tree is as it is now.
        expression: Python code to run; None to open the debugger.
        parent: The process that waits for this one.
    """

    record: RunRecord
    spec: StepSpec
    name: str
    owner: str
    position: int
    options: StepOptions
    manifests: tuple[tuple[int, str, Manifest], ...]
    attempt: int
    failure: str
    home: str
    expression: str | None
    parent: int
    scratch: str = ""
    source: str = ""
    current: bool = False


def main(arguments: Sequence[str]) -> int:
    """Debug what the file named by the only argument says."""
    session = msgspec.msgpack.decode(Path(arguments[0]).read_bytes(), type=Session)
    die_with_parent(session.parent, signal.SIGTERM)
    # The user's modules must not find our own arguments.
    sys.argv[:] = [session.record.facts.get("file", "")]
    try:
        return _debug(session)
    except KeyboardInterrupt:
        return 130
    except CupolaError as error:
        sys.stderr.write(f"error: {printable(error.what)}\n{printable(error.fix)}\n")
        return error.exit_code


def _debug(session: Session) -> int:
    live = _find_step(session)
    blobs = Blobs(Path(session.home))
    task = Task(
        position=session.position,
        spec=session.spec,
        options=session.options,
        live=live,
        attempt=session.attempt,
        tries=1,
        manifests={(step, output): manifest for step, output, manifest in session.manifests},
        shared={},
    )
    os.environ.update(session.options.env)
    enter_step(_context(session, blobs))
    loaders = {
        name: lambda name=name, source=source: load_input(source, task, blobs, live.annotations.get(name))
        for name, source in session.spec.inputs.items()
    }
    if session.expression is None:
        return _open(session, live, loaders)
    return _execute(session, live, loaders, session.expression)


Loaders = Mapping[str, Callable[[], Any]]
"""What loads each input of the step by name."""


def _open(session: Session, live: LiveStep, loaders: Loaders) -> int:
    """Open the debugger and return when the user leaves it."""
    inputs = {name: load() for name, load in loaders.items()}
    _tell(f"step {session.name} of run {session.record.name}: {', '.join(inputs) or 'no inputs'}")
    if session.failure:
        error = _run_until_it_raises(live, dict(inputs))
        if error is not None:
            open_after(error, session.source)
            return 0
        _tell(f"it did not raise this time, as it did with {session.failure}; here is its start")
    error = open_at_start(live.function, lambda: _call(live, dict(inputs)))
    if error is not None:
        open_after(error, session.source)
    return 0


def _execute(session: Session, live: LiveStep, loaders: Loaders, expression: str) -> int:
    """Run an expression where the debugger would open, and print what it gives."""
    error = None
    if session.failure:
        error = _with_output_aside(lambda: _run_until_it_raises(live, {name: load() for name, load in loaders.items()}))
        if isinstance(error, KeyboardInterrupt) and not session.failure.startswith("KeyboardInterrupt"):
            raise error
        if error is None:
            _tell(f"it did not raise this time, as it did with {session.failure}; this is at its start")
    try:
        if error is not None:
            result = evaluate_at(deepest_of_project(error.__traceback__, session.source), expression)
        else:
            result = evaluate_lazily(live.function, loaders, expression)
    except BaseException as raised:  # whatever the expression raises is the answer, and not a mistake of ours
        strip_own_frames(raised)
        sys.excepthook(type(raised), raised, raised.__traceback__)
        return 1
    if result is not NOTHING:
        show_result(result)
    return 0


def _run_until_it_raises(live: LiveStep, inputs: dict[str, Any]) -> BaseException | None:
    try:
        _call(live, inputs)
    except BaseException as error:  # what a step raises is what is looked for, SystemExit and interrupts too
        strip_own_frames(error)
        return error
    return None


def _call(live: LiveStep, inputs: dict[str, Any]) -> Any:
    return await_result(live.function(*[inputs.pop(name) for name in live.positional], **inputs))


def _find_step(session: Session) -> LiveStep:
    """Import the run's pipeline from the source tree, and return what it has of the step."""
    root = session.record.facts.get("root", "")
    if not session.current:
        move_paths(root, session.source, session.record.facts.get("file", ""))
    set_source_root(session.source)
    record = msgspec.structs.replace(session.record, facts={**session.record.facts, "root": session.source})
    pipeline = find_definition(record)
    compiled = compile_request(
        Request(pipeline=pipeline, arguments=recorded_arguments(record, pipeline), no_cache=True)
    )
    if not session.current:
        bring_files(root, session.source, compiled)
    spec, live = _called(session, compiled.program) if compiled.program is not None else _wired(session, compiled)
    if spec.code_digest != session.spec.code_digest:
        what = "is not the code that ran" if session.current else "is not all as it was when it ran"
        _tell(f"the code of step {session.name} {what}")
    return live


def _wired(session: Session, compiled: Compiled) -> tuple[StepSpec, LiveStep]:
    """Return a step of a static pipeline as it compiles now."""
    names = [spec.name for spec in compiled.snapshot.steps]
    if session.owner not in names:
        raise _gone(session, f"the pipeline has no step {session.owner!r}")
    place = names.index(session.owner)
    return compiled.snapshot.steps[place], compiled.steps[place]


def _called(session: Session, program: Program) -> tuple[StepSpec, LiveStep]:
    """Return a step that a dynamic pipeline called, found where its function is defined, as it compiles now."""
    module, _, qualname = session.spec.source.partition(":")
    found: Any = None if "<locals>" in qualname else import_module_of(module, session.source)
    for name in qualname.split(".") if found is not None else ():
        found = getattr(found, name, None)
    definition = getattr(found, "definition", None)
    if not isinstance(definition, StepDefinition):
        raise _gone(session, f"there is no step at the top level of {module!r} called {qualname!r}")
    callee = Callee(definition.function, read_signature(definition.function), (program.definition,))
    node = Node(0, session.name, definition, callee, dict(session.spec.inputs), (), (), call_site())
    addition, live = Calls(program).compile(node, "", 0)
    return addition.spec, live


def _gone(session: Session, what: str) -> NotFound:
    fix = "leave --current away to debug the code as it ran" if session.current else "define it at the top level"
    return NotFound(f"{what}{' any more' if session.current else ''}", where=session.spec.source, fix=fix)


def _context(session: Session, blobs: Blobs) -> StepContext:
    record = session.record
    context = StepContext(
        RunInfo(record.id, record.name, record.project, record.params),
        PipelineInfo(record.pipeline, record.source),
        StepInfo(session.name, session.spec.source, session.position),
        tuple(output.name for output in session.spec.outputs),
        _access(session, blobs),
        session.attempt,
    )
    context.open_checkpoints = _Forgotten
    return context


class _Forgotten:
    """Checkpoints of a step that is debugged: it begins from its start, and what it keeps goes nowhere."""

    def save(self, value: Any) -> None:
        """Keep nothing."""

    def load(self, warn: Callable[[str], None]) -> Any:
        """Return nothing."""


def _access(session: Session, blobs: Blobs) -> ArtifactAccess:
    """Return what the step may do with artifacts: read those of the store, and save to the scratch one."""
    scratch = Blobs(Path(session.scratch))
    saved: set[str] = set()

    def find(name: str, version: str) -> VersionRecord:
        store = Connection(Path(session.home)).store
        return store.get("version", f"{name}:{version or 'latest'}", who=OWNER)

    def store(value: Any, materializer: str, path: str) -> Manifest:
        manifest = made.store(value, materializer, path)
        saved.add(manifest.digest)
        return manifest

    def load(manifest: Manifest, as_type: object, allow_pickle: bool) -> Any:
        place = scratch if manifest.digest in saved else blobs
        return load_value(manifest, place, as_type, allow_pickle=allow_pickle)

    made = artifact_access(Path(session.scratch), scratch, find)
    return ArtifactAccess(store=store, find=find, load=load, uri=made.uri)


def _with_output_aside(action: Callable[[], Any]) -> Any:
    """Do something while what it prints goes to stderr: stdout is for the answer."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        return action()
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _tell(text: str) -> None:
    sys.stdout.flush()
    print(printable(text), file=sys.stderr, flush=True)
