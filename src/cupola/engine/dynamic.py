"""Dynamic runs: the pipeline function runs from its beginning to its end, and with it all calls that it makes."""

from __future__ import annotations

from cupola.compiler.dynamic import Program, run_function
from cupola.compiler.source import source_name
from cupola.context import PipelineContext, PipelineInfo, RecordingRun, RunInfo, in_pipeline
from cupola.engine.conductor import Conductor
from cupola.engine.desk import Desk, Verdict
from cupola.engine.driver import Driver
from cupola.engine.history import History
from cupola.engine.questions import Paused, Questions
from cupola.engine.results import failed_outcome
from cupola.engine.resume import Given
from cupola.engine.site import Site
from cupola.failures import describe_failure, is_failure
from cupola.worker import Outcome


def drive_dynamically(driver: Driver, program: Program, given: Given, desk: Desk, info: RunInfo, site: Site) -> Verdict:
    """Run a pipeline function to its end, with all calls that it makes; record how the run ended.

    Args:
        driver: Carries the calls out.
        program: The pipeline.
        given: What was reached in earlier drives of the run.
        desk: What the driver works with.
        info: The run.
        site: Where it happens.
    """
    history = History(given.past, given.done)
    questions = Questions(history, given.answer, desk.recorder.record)
    conductor = Conductor(program, driver.go_on, driver.additions, history, questions, desk.interrupts, site.blobs)
    driver.additions.listener = conductor
    source = source_name(program.definition.described)
    run = RecordingRun(info.id, info.name, info.project, info.encoded_params, recall=conductor.recall)
    try:
        with (
            desk.interrupts.stopping("the pipeline function"),
            in_pipeline(PipelineContext(run, PipelineInfo(program.definition.name, source), conductor.ask)),
        ):
            conductor.end(run_function(program, conductor))
    except Paused as paused:
        conductor.close(is_paused=True)
        return driver.drive(paused)
    except BaseException as error:
        if not is_failure(error):
            desk.interrupts.note(error)
        else:
            driver.fail(*_blame(conductor, error, site))
    conductor.close(is_paused=False)
    return driver.drive()


def _blame(conductor: Conductor, error: BaseException, site: Site) -> tuple[int, Outcome]:
    """Return which step an error of the pipeline function is about, -1 for none, and how that one ended."""
    call = conductor.find(error)
    if call is None or call.failure is None:
        return -1, failed_outcome(error, describe_failure(error, site.root))
    return call.position, failed_outcome(call.error or error, call.failure)
