"""What a call of a pipeline does: bind its arguments, compile, plan or run, and show the result as a `Run`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from cupola import engine
from cupola.artifacts.blobs import Blobs
from cupola.authoring.requests import Request, compile_request, source_root
from cupola.client.connect import connect
from cupola.client.reading import RunReader
from cupola.client.views import Run, StepRun
from cupola.compiler.binding import match
from cupola.compiler.callsite import caller_place
from cupola.compiler.loading import importing
from cupola.compiler.signature import read_signature
from cupola.compiler.source import program_file
from cupola.compiler.trace import PipelineDefinition
from cupola.engine.display import make_reporter
from cupola.engine.launch import Audience, Launched, launch_run
from cupola.engine.reporter import Screen, Silent
from cupola.engine.site import Site
from cupola.entities.run import RunStatus
from cupola.errors import CupolaError, RunAtImport, RunCancelled, RunFailed
from cupola.middleware.attempt import Hook, Moment
from cupola.settings import read_setting

if TYPE_CHECKING:
    from cupola.engine.plan import Plan


def plan_request(request: Request) -> Plan:
    """Return what a run would do with each step, and why."""
    return engine.plan.plan_run(compile_request(request), open_site(request.pipeline))


def run_request(request: Request, *, quiet: bool = False) -> tuple[Run, CupolaError | None]:
    """Run a pipeline as asked; return its record, and the error to raise when it failed.

    The caller raises, so that as few of Cupola's frames as possible stand between people and their own.

    Args:
        request: What is asked.
        quiet: Whether nothing is shown while it runs.

    Raises:
        RunAtImport: The file that calls is only being imported.
    """
    pipeline = request.pipeline
    if file := importing():
        raise RunAtImport(
            f"pipeline {pipeline.name!r} was started while {file} was only being imported",
            where=caller_place(),
            fix='put the call below: if __name__ == "__main__":',
        )
    compiled = compile_request(request)
    site = open_site(pipeline)
    launched = launch_run(compiled, site, _audience(), _facts(), Silent(Screen()) if quiet else make_reporter())
    run = Run(RunReader(connect(), launched.run))
    return run, _error_of(run, launched) if compiled.raise_on_failure else None


def open_site(pipeline: PipelineDefinition) -> Site:
    """Return where a run of a pipeline happens, from the settings and the place of its source file."""
    connection = connect()
    sync = read_setting("durability") == "power"
    return Site(
        home=connection.home,
        root=source_root(pipeline),
        project=read_setting("project"),
        store=connection.store,
        # Its own, not the connection's: what it keeps in mind of what it stored serves the steps of this run only.
        blobs=Blobs(connection.home, sync=sync),
        sync=sync,
    )


def _audience() -> Audience:
    def tell_step_hook(run: str, hook: Hook, moment: Moment) -> None:
        reader = RunReader(connect(), run)
        record = reader.step(moment.position)
        now = msgspec.structs.replace(record, status=moment.status, failure=moment.failure)
        hook(StepRun(reader, moment.position, now))

    def tell_run_hook(run: str, hook: Hook) -> None:
        hook(Run(RunReader(connect(), run)))

    return Audience(tell_step_hook=tell_step_hook, tell_run_hook=tell_run_hook)


def _facts() -> dict[str, str]:
    return {"file": program_file(), "command": " ".join(sys.argv)}


def _error_of(run: Run, launched: Launched) -> CupolaError | None:
    verdict = launched.verdict
    if verdict.status is RunStatus.CANCELLED:
        cancelled = RunCancelled(
            f"run {run.name} was cancelled by {verdict.signal}", fix="what had finished is kept: the next run reuses it"
        )
        cancelled.run = run
        cancelled.exit_code = 143 if verdict.signal == "SIGTERM" else 130
        return cancelled
    if verdict.status is RunStatus.FAILED:
        step = list(run.steps)[verdict.failed_step]
        cause = verdict.error
        # An error of Cupola's own says what to do; that isn't to be lost below what it says of itself.
        remedy = f"{cause.fix.partition(chr(10))[0]}; " if isinstance(cause, CupolaError) and cause.fix else ""
        failed = RunFailed(
            f"run {run.name} failed in step {step!r}: {run.error}",
            where=run.error.where if run.error else "",
            fix=f"{remedy}see: cupola show {run.name}, cupola logs {run.name} {step}",
        )
        failed.run = run
        failed.__cause__ = cause
        return failed
    return None


def given_arguments(pipeline: PipelineDefinition, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a call passed, by parameter name; what it left out may come from files, the environment or defaults.

    Raises:
        CompileError: An argument is unknown or given twice.
    """
    return match(pipeline.name, read_signature(pipeline.described), args, kwargs)
