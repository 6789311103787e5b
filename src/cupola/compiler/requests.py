"""What a call or a command asks of a pipeline: parameters and options from all layers, and where each was said."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec import UNSET

from cupola.compiler.compile import Compiled, compile_pipeline
from cupola.compiler.config import (
    ConfigFile,
    argument_layers,
    call_layer,
    environment_layer,
    find_config_file,
    read_config_file,
    resolve_params,
)
from cupola.compiler.nodes import PipelineDefinition
from cupola.compiler.signature import read_signature
from cupola.compiler.source import root_of, underlying
from cupola.entities.options import HOOKS, merge_knobs
from cupola.files import set_source_root


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a pipeline.

    Attributes:
        pipeline: The pipeline.
        arguments: What a call passed, by parameter name.
        params: What `--param` said, as `a.b=1`.
        config: File of `--config`.
        no_cache: Whether no earlier result may be used.
        folder: Where relative paths of `params` start; the working folder when left out.
        workers: How many worker processes the run may have; 0 for none, None where the command doesn't say.
    """

    pipeline: PipelineDefinition
    arguments: Mapping[str, Any] = {}
    params: tuple[str, ...] = ()
    config: Path | None = None
    no_cache: bool = False
    folder: Path | None = None
    workers: int | None = None


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """A request with everything found that counts for it.

    Attributes:
        params: The value of each parameter.
        origins: Where each was said, by dotted path.
        files: The configuration files, lowest first.
    """

    params: Mapping[str, Any]
    origins: Mapping[str, str]
    files: tuple[ConfigFile, ...]


class ShownSetting(msgspec.Struct, frozen=True):
    """One line of `--show-config`: a name, its value as text, and where it was said."""

    name: str
    value: str
    origin: str


def source_root(pipeline: PipelineDefinition) -> Path:
    """Return the source root of a pipeline's file; relative files and folders start there from now on."""
    file = _source_file(pipeline)
    root = root_of(file or None)
    set_source_root(root)
    return root


def compile_request(request: Request) -> Compiled:
    """Compile a pipeline with what was asked of it.

    Raises:
        CompileError: Wiring, types or names are wrong.
        ConfigError: A parameter or option is wrong.
    """
    resolved = resolve_request(request)
    return compile_pipeline(
        request.pipeline,
        resolved.params,
        origins=resolved.origins,
        layers=[file.knobs for file in resolved.files],
        step_params=[file.step_params for file in resolved.files],
        no_cache=request.no_cache,
    )


def resolve_request(request: Request) -> Resolved:
    """Find the value of each parameter and the configuration files of a request."""
    pipeline = request.pipeline
    root = source_root(pipeline)
    parameters = read_signature(pipeline.described).parameters
    folder = request.folder or Path.cwd()
    files: list[ConfigFile] = []
    source_file = _source_file(pipeline)
    beside = find_config_file(source_file) if source_file else None
    if beside is not None:
        files.append(beside)
    if request.config is not None:
        files.append(read_config_file(request.config))
    layers = [
        *(file.params for file in files),
        environment_layer(parameters, os.environ, folder),
        call_layer(request.arguments),
        *argument_layers(request.params, folder),
    ]
    params, origins = resolve_params(parameters, layers, pipeline=pipeline.name, root=root)
    return Resolved(params=params, origins=origins, files=tuple(files))


def show_request(request: Request) -> list[ShownSetting]:
    """Return every parameter and option that was said, with its value and where it is from."""
    resolved = resolve_request(request)
    shown: list[ShownSetting] = []
    for name, value in resolved.params.items():
        shown.append(ShownSetting(f"params.{name}", repr(value), resolved.origins.get(name, "default")))
        for path, origin in resolved.origins.items():
            if path.startswith(name + "."):
                shown.append(ShownSetting(f"params.{path}", repr(_dig(value, path.split(".")[1:])), origin))
    return shown + _shown_options(request.pipeline, resolved.files, request.no_cache)


def _shown_options(pipeline: PipelineDefinition, files: Sequence[ConfigFile], no_cache: bool) -> list[ShownSetting]:
    said: dict[str, ShownSetting] = {}

    def note(knobs: Any, prefix: str, origin: str, places: Mapping[str, str]) -> None:
        for field in knobs.__struct_fields__:
            value = getattr(knobs, field)
            if value is not UNSET and field not in (*HOOKS, "name"):
                path = prefix + field
                said[path] = ShownSetting(path, repr(value), places.get(path, origin))

    note(pipeline.knobs, "", "decorator", {})
    note(pipeline.overrides, "", "with_options", {})
    for file in files:
        note(file.knobs.pipeline, "", str(file.path), file.places)
        for step, knobs in file.knobs.steps.items():
            note(knobs, f"steps.{step}.", str(file.path), file.places)
        for step, layer in file.step_params.items():
            for name, tree in layer.values.items():
                path = f"steps.{step}.params.{name}"
                said[path] = ShownSetting(path, repr(getattr(tree, "text", tree)), layer.origin)
    if no_cache:
        said["cache"] = ShownSetting("cache", "not read", "--no-cache")
    merged = merge_knobs(pipeline.knobs, pipeline.overrides)
    if merged.on_error is UNSET:
        said.setdefault("on_error", ShownSetting("on_error", "'stop'", "default"))
    return list(said.values())


def _dig(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        value = cast("Mapping[Any, Any]", value).get(name) if isinstance(value, Mapping) else getattr(value, name, None)
    return value


def _source_file(pipeline: PipelineDefinition) -> str:
    code = getattr(underlying(pipeline.described), "__code__", None)
    return code.co_filename if code is not None else ""
