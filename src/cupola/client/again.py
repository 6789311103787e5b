"""Runs that begin from an earlier one: `resume` goes on with it, `rerun` makes a new one that takes over its results.

Both import the pipeline again, since a run's record holds its graph and values and not its functions.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from cupola import artifacts, values
from cupola.artifacts.blobs import Blobs
from cupola.client.launching import audience, error_of, open_site, run_facts
from cupola.client.reading import RunReader
from cupola.client.views import Run
from cupola.compiler.compile import Compiled
from cupola.compiler.known import recall, remember
from cupola.compiler.loading import load_target
from cupola.compiler.nodes import PipelineDefinition
from cupola.compiler.rebind import edited_steps, rebind
from cupola.compiler.requests import Request, compile_request
from cupola.compiler.signature import read_signature
from cupola.compiler.source import module_file, module_name, root_of
from cupola.engine.display import make_reporter
from cupola.engine.launch import launch_run, resume_run
from cupola.engine.reporter import Reporter, Screen, Silent
from cupola.engine.rerun import Earlier, select, select_calls
from cupola.engine.resume import Answer, Given, Reached, Resumption
from cupola.entities.artifact import INLINE_BYTES
from cupola.entities.run import RunRecord, RunStatus
from cupola.errors import CodeChanged, Conflict, CupolaError, NotFound
from cupola.event import RunResumed
from cupola.ids import now
from cupola.snapshot import Snapshot
from cupola.suggest import nearest
from cupola.text import storable_text

Ended = tuple[Run, CupolaError | None]
"""A run that is over, and the error to raise when it didn't end well."""


def resume(
    reader: RunReader,
    *,
    with_current_code: bool = False,
    with_checkpoints: bool = True,
    by_force: bool = False,
    quiet: bool = False,
    workers: int | None = None,
    answer: Answer | None = None,
) -> Ended:
    """Go on with a run that failed, was cancelled or lost, or waits for an answer.

    Args:
        reader: Of the run. What has finished in it never runs again; everything else does.
        with_current_code: Whether steps that aren't finished may run with code that was edited since.
        with_checkpoints: Whether steps go on from their checkpoints; otherwise those are removed.
        by_force: Whether the run is taken from a driver that lives and is stuck.
        quiet: Whether nothing is shown while it runs.
        workers: How many worker processes it may have; 0 for none, None when nobody says.
        answer: What somebody answers to the question that it waits with.

    Raises:
        Conflict: The run is complete, or a living driver has it.
        CodeChanged: The code of unfinished steps was edited since.
    """
    record = reader.record()
    if record.status is RunStatus.COMPLETED:
        raise Conflict(
            f"run {record.name} is completed: there is nothing to resume",
            fix=f"to run it again: cupola rerun {record.name}",
        )
    pipeline = find_definition(reader.record())
    site = open_site(pipeline)
    fresh = compile_request(Request(pipeline=pipeline, arguments=recorded_arguments(reader.record(), pipeline)))
    reporter = Silent(Screen()) if quiet else make_reporter()

    def bind(reached: Reached) -> tuple[Compiled, RunResumed]:
        if fresh.program is not None:
            is_edited = fresh.snapshot.dynamic != reached.snapshot.dynamic
            if is_edited and not with_current_code:
                raise _edited_function(record.name, fresh)
            return fresh, _resumed_event(reached, fresh, site.blobs, is_edited=is_edited)
        edited = edited_steps(reached.snapshot, fresh)
        open_ones = [position for position in edited if position not in reached.done]
        if open_ones and not with_current_code:
            raise _edited(record.name, reached.snapshot, fresh, open_ones)
        _warn_of_finished(reached, [position for position in edited if position in reached.done], reporter)
        if not with_checkpoints:
            artifacts.checkpoints.forget_all(reader.folder())
        data = reader.snapshot_bytes()
        compiled = rebind(reached.snapshot, data, fresh, open_ones)
        return compiled, _resumed_event(reached, compiled, site.blobs, is_edited=bool(open_ones))

    how = Resumption(by_force=by_force, workers=workers, answer=answer)
    launched = resume_run(bind, site, audience(), reporter, record, how)
    reader.forget()
    resumed = Run(RunReader(reader.connection, launched.run))
    return resumed, error_of(resumed, launched)


def rerun(
    reader: RunReader,
    *,
    from_step: str = "",
    params: Mapping[str, Any] | None = None,
    said: tuple[str, ...] = (),
    with_checkpoints: bool = False,
    quiet: bool = False,
    workers: int | None = None,
) -> Ended:
    """Run a pipeline again in a new run, which takes over the results of an earlier one that still hold.

    Args:
        reader: Of the earlier run, also one that is still being driven.
        from_step: The step from which on everything runs anew. When left out, what had not finished runs, and what
            other parameters or edited code make different.
        params: Parameters that are changed, by name.
        said: The same as `NAME=VALUE`.
        with_checkpoints: Whether steps go on from the checkpoints that they left in the earlier run.
        quiet: Whether nothing is shown while it runs.
        workers: How many worker processes it may have; 0 for none, None when nobody says.

    Raises:
        NotFound: The run has no such step.
    """
    pipeline = find_definition(reader.record())
    remember(pipeline)
    site = open_site(pipeline)
    arguments = {**recorded_arguments(reader.record(), pipeline), **(params or {})}
    fresh = compile_request(Request(pipeline=pipeline, arguments=arguments, params=said))
    # What a dynamic pipeline will call, nobody knows; what it called, the earlier run does.
    known = reader.snapshot() if fresh.program is not None else fresh.snapshot
    names = list(dict.fromkeys(name for spec in known.steps for name in (spec.name.partition("[")[0], spec.name)))
    if from_step and from_step not in names:
        close = nearest(from_step, names)
        raise NotFound(
            f"pipeline {pipeline.name!r} has no step {from_step!r}",
            where=f"run {reader.record().name}",
            fix=f"did you mean {close!r}?" if close else f"its steps are: {', '.join(names)}",
        )
    reader.bring_outputs([child for children in reader.expanded().children.values() for child in children])
    earlier = Earlier(
        snapshot=reader.snapshot(),
        steps=reader.steps(),
        children=reader.expanded().children,
        outputs=reader.outputs,
        exists=lambda version: all(
            site.blobs.exists(file.blob) for file in version.manifest.files if file.kind in "fx"
        ),
    )
    chosen = select(fresh.snapshot, earlier, from_step)
    calls = select_calls(reader.graph().additions, earlier)
    reporter = Silent(Screen()) if quiet else make_reporter()
    facts = {**run_facts(), "rerun_of": reader.id, **({"from_step": from_step} if from_step else {})}
    given = Given(
        kept=chosen.kept,
        kept_children=chosen.kept_children,
        forced=chosen.forced,
        calls=calls,
        first=from_step if fresh.program is not None else "",
        checkpoints_of=reader.id if with_checkpoints else "",
    )
    launched = launch_run(fresh, site, audience(), facts, reporter, given, workers)
    new = Run(RunReader(reader.connection, launched.run))
    return new, error_of(new, launched)


def find_definition(record: RunRecord) -> PipelineDefinition:
    """Return the pipeline of a run: the one that ran in this process, else what its module defines now.

    Raises:
        NotFound: Its module or its name isn't there any more, or it was defined inside a function.
    """
    known = recall(record.source, record.pipeline)
    if known is not None:
        return known
    module, _, qualname = record.source.partition(":")
    if "<locals>" in qualname:
        raise NotFound(
            f"pipeline {record.pipeline!r} was defined inside a function, so another process can't find it",
            where=record.source,
            fix="define it at the top level of a module",
        )
    found: Any = import_module_of(module, record.facts.get("root", ""))
    for name in qualname.split("."):
        found = getattr(found, name, None)
    definition = getattr(found, "definition", None)
    if isinstance(definition, PipelineDefinition):
        return definition
    raise NotFound(
        f"{module!r} has no pipeline {qualname!r} any more", where=record.source, fix="go back to the code of the run"
    )


def import_module_of(module: str, root: str) -> Any:
    """Return a module of a project by its name relative to the source root.

    Raises:
        NotFound: It isn't there.
    """
    path = os.path.join(root, *module.split("."))
    for file in (path + ".py", os.path.join(path, "__init__.py")):
        if os.path.isfile(file):
            known = _loaded(file)
            if known is not None and module_name(file, root_of(file)) == module:
                return known
            # The root of the run: it may be above that of the file alone, whose module has its name from there.
            return load_target(file, Path(root), Path(root))[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise NotFound(
            f"the module {module!r} of the run can't be found",
            where=f"looked in {root} and on sys.path",
            fix="run this where the project is",
        ) from error


def _loaded(file: str) -> ModuleType | None:
    """Return the module that this process has from a file, under whatever name it was imported."""
    wanted = os.path.realpath(file)
    name = os.path.basename(file)
    for found in list(sys.modules.values()):
        path = module_file(found)
        if os.path.basename(path) == name and os.path.realpath(path) == wanted:
            return found
    return None


def recorded_arguments(record: RunRecord, pipeline: PipelineDefinition) -> dict[str, Any]:
    """Return the parameters of a run as its pipeline takes them now."""
    recorded = record.params
    return {
        parameter.name: values.decode(recorded[parameter.name], parameter.annotation)
        for parameter in read_signature(pipeline.described).parameters
        if parameter.name in recorded
    }


def _edited(run: str, snapshot: Snapshot, fresh: Compiled, edited: list[int]) -> CodeChanged:
    changed: dict[str, str] = {}
    for position in edited:
        before = {part.name: part.digest for place in snapshot.steps[position].code if (part := snapshot.parts[place])}
        for place in fresh.snapshot.steps[position].code:
            part = fresh.snapshot.parts[place]
            if before.get(part.name) != part.digest:
                changed.setdefault(part.name, fresh.places[place])
    names = ", ".join(repr(snapshot.steps[position].name) for position in edited[:5])
    what = ", ".join(f"{name} ({place})" if place else name for name, place in list(changed.items())[:5])
    return CodeChanged(
        f"steps that run {run} has yet to run were edited since: {names}; changed is {what or 'what they read'}",
        fix=f"to go on with the code as it is now: cupola resume {run} --with-current-code",
    )


def _edited_function(run: str, fresh: Compiled) -> CodeChanged:
    return CodeChanged(
        f"the dynamic pipeline of run {run}, or a step that it reaches, was edited since",
        where=fresh.snapshot.source,
        fix=f"to go on with the code as it is now: cupola resume {run} --with-current-code; finished steps stay as "
        "they are",
    )


def _warn_of_finished(reached: Reached, edited: list[int], reporter: Reporter) -> None:
    if edited:
        names = ", ".join(reached.snapshot.steps[position].name for position in edited)
        reporter.warn(f"edited since they finished, and kept as they are: {names}")


def _resumed_event(reached: Reached, compiled: Compiled, blobs: Blobs, *, is_edited: bool) -> RunResumed:
    facts = {name: storable_text(text) for name, text in run_facts().items()}
    facts["pid"] = str(os.getpid())
    stands = tuple(reached.past.failures)
    if not is_edited:
        return RunResumed(now(), reached.gone, facts, stands=stands)
    inline = len(compiled.data) <= INLINE_BYTES
    return RunResumed(
        at=now(),
        again=reached.gone,
        facts=facts,
        snapshot=compiled.id,
        snapshot_bytes=compiled.data if inline else b"",
        snapshot_blob="" if inline else blobs.put_bytes(compiled.data)[0],
        places=tuple(map(storable_text, compiled.places)),
        stands=stands,
    )
