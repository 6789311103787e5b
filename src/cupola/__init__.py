"""Cupola: ML pipelines as plain Python, every run recorded, cached and explainable.

Names are imported when first used, so that `import cupola` costs next to nothing (PEP 562).
"""

from __future__ import annotations

from cupola.version import VERSION as __version__

# Type checkers take this name for true. The module `typing` would be most of what importing Cupola costs.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cupola.authoring.asking import wait
    from cupola.authoring.mapping import Mapped, unmapped
    from cupola.authoring.pipelines import Pipeline, pipeline
    from cupola.authoring.recording import (
        add_tags,
        checkpoint,
        load_artifact,
        log_metadata,
        log_metrics,
        register_artifact,
        remove_tags,
        save_artifact,
    )
    from cupola.authoring.steps import Step, step
    from cupola.client.client import Client
    from cupola.client.views import ArtifactVersion, Run, StepRun
    from cupola.compiler.nodes import Output
    from cupola.context import get_step_context, progress
    from cupola.engine.futures import Future, as_completed, value
    from cupola.entities.options import ArtifactConfig, CachePolicy, Image, Model, Retry
    from cupola.entities.resources import Resources
    from cupola.errors import (
        Ambiguous,
        CodeChanged,
        CompileError,
        ConfigError,
        Conflict,
        CupolaError,
        Damaged,
        Diverged,
        Fenced,
        Forbidden,
        MaterializerError,
        NotFound,
        RunAtImport,
        RunCancelled,
        RunFailed,
        StepFailed,
        StoreTooNew,
        Unreachable,
    )
    from cupola.files import File, Folder
    from cupola.middleware.records import get_logger
    from cupola.records import Record

_HOMES = {
    "cupola.authoring.asking": ("wait",),
    "cupola.authoring.mapping": ("Mapped", "unmapped"),
    "cupola.authoring.pipelines": ("Pipeline", "pipeline"),
    "cupola.authoring.recording": (
        "add_tags", "checkpoint", "load_artifact", "log_metadata", "log_metrics", "register_artifact", "remove_tags",
        "save_artifact",
    ),
    "cupola.authoring.steps": ("Step", "step"),
    "cupola.client.client": ("Client",),
    "cupola.client.views": ("ArtifactVersion", "Run", "StepRun"),
    "cupola.compiler.nodes": ("Output",),
    "cupola.context": ("get_step_context", "progress"),
    "cupola.engine.futures": ("Future", "as_completed", "value"),
    "cupola.entities.options": ("ArtifactConfig", "CachePolicy", "Image", "Model", "Retry"),
    "cupola.entities.resources": ("Resources",),
    "cupola.errors": (
        "Ambiguous", "CodeChanged", "CompileError", "ConfigError", "Conflict", "CupolaError", "Damaged", "Diverged",
        "Fenced", "Forbidden", "MaterializerError", "NotFound", "RunAtImport", "RunCancelled", "RunFailed",
        "StepFailed", "StoreTooNew", "Unreachable",
    ),
    "cupola.files": ("File", "Folder"),
    "cupola.middleware.records": ("get_logger",),
    "cupola.records": ("Record",),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Ambiguous",
    "ArtifactConfig",
    "ArtifactVersion",
    "CachePolicy",
    "Client",
    "CodeChanged",
    "CompileError",
    "ConfigError",
    "Conflict",
    "CupolaError",
    "Damaged",
    "Diverged",
    "Fenced",
    "File",
    "Folder",
    "Forbidden",
    "Future",
    "Image",
    "Mapped",
    "MaterializerError",
    "Model",
    "NotFound",
    "Output",
    "Pipeline",
    "Record",
    "Resources",
    "Retry",
    "Run",
    "RunAtImport",
    "RunCancelled",
    "RunFailed",
    "Step",
    "StepFailed",
    "StepRun",
    "StoreTooNew",
    "Unreachable",
    "__version__",
    "add_tags",
    "as_completed",
    "checkpoint",
    "get_logger",
    "get_step_context",
    "load_artifact",
    "log_metadata",
    "log_metrics",
    "pipeline",
    "progress",
    "register_artifact",
    "remove_tags",
    "save_artifact",
    "step",
    "unmapped",
    "value",
    "wait",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'cupola' has no attribute {name!r}")
    from cupola.late import load

    value = getattr(load(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
