"""What surrounds a run that this process drives: where it happens, who is told of it, and how its end is put."""

from __future__ import annotations

import sys

import msgspec

from cupola.artifacts.blobs import Blobs
from cupola.client.connect import connect
from cupola.client.reading import RunReader
from cupola.client.views import Run, StepRun
from cupola.compiler.nodes import PipelineDefinition
from cupola.compiler.requests import source_root
from cupola.compiler.source import program_file
from cupola.engine.launch import Audience, Launched
from cupola.engine.provenance.masking import mask_command
from cupola.engine.site import Site
from cupola.entities.run import RunStatus
from cupola.errors import CupolaError, RunCancelled, RunFailed
from cupola.middleware.attempt import Hook, Moment
from cupola.settings import read_setting
from cupola.text import shell_word


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


def audience() -> Audience:
    """Return what calls hooks with views."""

    def tell_step_hook(run: str, hook: Hook, moment: Moment) -> None:
        reader = RunReader(connect(), run)
        record = reader.step(moment.position)
        now = msgspec.structs.replace(record, status=moment.status, failure=moment.failure)
        hook(StepRun(reader, moment.position, now))

    def tell_run_hook(run: str, hook: Hook) -> None:
        hook(Run(RunReader(connect(), run)))

    return Audience(tell_step_hook=tell_step_hook, tell_run_hook=tell_run_hook)


def run_facts() -> dict[str, str]:
    """Return what is to be known of the process that drives a run."""
    return {"file": program_file(), "command": mask_command(sys.argv)}


def error_of(run: Run, launched: Launched) -> CupolaError | None:
    """Return the error that a run ended with, or None when it is complete."""
    verdict = launched.verdict
    if verdict.status is RunStatus.CANCELLED:
        cancelled = RunCancelled(
            f"run {run.name} was cancelled by {verdict.reason}",
            fix=f"what had finished is kept; to go on: cupola resume {run.name}",
        )
        cancelled.run = run
        cancelled.exit_code = 143 if verdict.signal == "SIGTERM" else 130
        return cancelled
    if verdict.status is RunStatus.PAUSED and isinstance(verdict.error, CupolaError):
        refused = verdict.error
        refused.fix = f"{refused.fix or 'it was refused'}; nothing was answered, again: cupola answer {run.name}"
        return refused
    if verdict.status is RunStatus.FAILED:
        step = run.reader.name(verdict.failed_step) if verdict.failed_step >= 0 else ""
        cause = verdict.error
        # An error of Cupola's own says what to do; that isn't to be lost below what it says of itself.
        remedy = f"{cause.fix.partition(chr(10))[0]}; " if isinstance(cause, CupolaError) and cause.fix else ""
        failed = RunFailed(
            f"run {run.name} failed in {f'step {step!r}' if step else 'its pipeline function'}: {run.error}",
            where=run.error.where if run.error else "",
            fix=f"{remedy}see: cupola show {run.name}, cupola logs {run.name}{f' {shell_word(step)}' if step else ''}",
        )
        failed.run = run
        failed.__cause__ = cause
        return failed
    return None
