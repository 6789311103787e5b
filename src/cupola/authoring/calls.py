"""What a call of a pipeline does: bind its arguments, compile, plan or run, and show the result as a `Run`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cupola import engine
from cupola.client.connect import connect
from cupola.client.launching import audience, error_of, open_site, run_facts
from cupola.client.reading import RunReader
from cupola.client.views import Run
from cupola.compiler.binding import match
from cupola.compiler.callsite import caller_place
from cupola.compiler.known import remember
from cupola.compiler.loading import importing
from cupola.compiler.nodes import PipelineDefinition
from cupola.compiler.requests import Request, compile_request
from cupola.compiler.signature import read_signature
from cupola.engine.display import make_reporter
from cupola.engine.launch import launch_run
from cupola.engine.reporter import Screen, Silent
from cupola.errors import CupolaError, RunAtImport

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
    remember(pipeline)
    compiled = compile_request(request)
    site = open_site(pipeline)
    reporter = Silent(Screen()) if quiet else make_reporter()
    launched = launch_run(compiled, site, audience(), run_facts(), reporter, workers=request.workers)
    run = Run(RunReader(connect(), launched.run))
    return run, error_of(run, launched) if compiled.raise_on_failure else None


def given_arguments(pipeline: PipelineDefinition, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a call passed, by parameter name; what it left out may come from files, the environment or defaults.

    Raises:
        CompileError: An argument is unknown or given twice.
    """
    return match(pipeline.name, read_signature(pipeline.described), args, kwargs)
