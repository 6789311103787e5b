"""The pipelines that this process has defined, by where: what `resume` and `rerun` look for before they import."""

from __future__ import annotations

from cupola.compiler.nodes import PipelineDefinition
from cupola.compiler.source import source_name

_known: dict[tuple[str, str], PipelineDefinition] = {}


def remember(pipeline: PipelineDefinition) -> None:
    """Note a pipeline that is about to run; a later one of the same place and name takes its place."""
    _known[source_name(pipeline.described), pipeline.name] = pipeline


def recall(source: str, name: str) -> PipelineDefinition | None:
    """Return the pipeline of a place (`module:qualname`) and name that ran in this process, or None."""
    return _known.get((source, name))
