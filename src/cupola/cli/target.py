"""What `run` and `plan` have in common: the pipeline that a command names, and what is asked of it."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from cupola.authoring.pipelines import Pipeline
from cupola.cli.arguments import Namespace, Parser
from cupola.compiler.loading import load_target
from cupola.compiler.requests import Request
from cupola.errors import CompileError, CupolaError, NotFound
from cupola.failures import strip_own_frames
from cupola.suggest import nearest
from cupola.text import printable


def add_target_options(parser: Parser) -> None:
    """Declare the arguments that name a pipeline and say what is asked of it."""
    parser.option(
        "target", metavar="PIPELINE", help="FILE, FILE:NAME or MODULE:NAME; a file's one pipeline needs no name"
    )
    parser.option(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="set a parameter; a.b=1 for a field"
    )
    parser.option("--config", metavar="FILE", help="a configuration file")
    parser.option("--no-cache", action="store_true", help="use no earlier results; this run's may be used later")


def read_request(chosen: Namespace) -> Request:
    """Import what the arguments name and return what they ask.

    Raises:
        NotFound: There is no such file, module or pipeline.
        CompileError: The file has several pipelines and none was named.
    """
    return Request(
        pipeline=find_pipeline(chosen.target).definition,
        params=tuple(chosen.param),
        config=Path(chosen.config) if chosen.config else None,
        no_cache=chosen.no_cache,
        folder=Path.cwd(),
    )


def find_pipeline(target: str) -> Pipeline[Any, Any]:
    """Return the pipeline that a command names; its module is imported, and its `__main__` block does not run."""
    try:
        module, name = load_target(target, Path.cwd())
    except CupolaError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise _import_failed(target, error) from error
    found = _pipelines_of(module)
    if name is not None:
        return _named(target, name, module, found)
    own = {key: value for key, value in found.items() if value.__module__ == module.__name__} or found
    distinct = {id(value.definition): key for key, value in own.items()}
    if len(distinct) == 1:
        return own[next(iter(distinct.values()))]
    if not distinct:
        raise NotFound(
            f"{printable(target)} has no pipeline",
            where=module.__file__ or "",
            fix="mark a function in it with @pipeline, at the top level of the file",
        )
    listed = ", ".join(sorted(distinct.values()))
    raise CompileError(
        f"{printable(target)} has {len(distinct)} pipelines: {listed}",
        fix=f"name one: {printable(target)}:{min(distinct.values())}",
    )


def _pipelines_of(module: ModuleType) -> Mapping[str, Pipeline[Any, Any]]:
    members: dict[str, Any] = vars(module)
    return {name: cast("Pipeline[Any, Any]", value) for name, value in members.items() if isinstance(value, Pipeline)}


def _named(target: str, name: str, module: ModuleType, found: Mapping[str, Pipeline[Any, Any]]) -> Pipeline[Any, Any]:
    if name in found:
        return found[name]
    by_own_name = [value for value in found.values() if value.name == name]
    if by_own_name:
        return by_own_name[0]
    if hasattr(module, name):
        raise NotFound(f"{name!r} in {printable(target)} is no pipeline", fix="mark the function with @pipeline")
    close = nearest(name, found)
    there = f"there are: {', '.join(found)}" if found else "there is no pipeline in it at all"
    raise NotFound(
        f"there is no pipeline {name!r} in {printable(target)}", fix=f"did you mean {close!r}?" if close else there
    )


def _import_failed(target: str, error: BaseException) -> CupolaError:
    """Print the user's own traceback, and return the error that says what it was."""
    strip_own_frames(error)
    sys.stdout.flush()
    text = "".join(traceback.format_exception(error))
    # Python's own import machinery stands between ours and the user's frames, and says nothing about either.
    sys.stderr.write(text)
    return CupolaError(
        f"{printable(target)} can't be imported: {type(error).__name__}: {error}",
        fix="mend the line that the traceback above ends with; nothing ran",
    )
