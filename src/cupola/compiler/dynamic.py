"""Dynamic pipelines: the function runs with the run, and what it calls becomes part of the graph, call by call.

`Program` is what compiling leaves to be run. `Calls` says of each call what a snapshot says of a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec

from cupola import digest, values
from cupola.compiler import check
from cupola.compiler.binding import call_bound
from cupola.compiler.config import ParamLayer
from cupola.compiler.nodes import Node, PipelineDefinition
from cupola.compiler.options import KnobLayer
from cupola.compiler.overrides import override_call
from cupola.compiler.reach import code_parts
from cupola.compiler.returned import returned_outputs
from cupola.compiler.signature import read_signature
from cupola.compiler.source import source_name
from cupola.compiler.stepcompile import LiveStep, StepCompiler
from cupola.compiler.trace import Conducts, Trace, tracing
from cupola.snapshot import Addition, CodePart, RunOutput, StepOptions, StepSpec, in_order


class Program(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The function of a dynamic pipeline, ready to run.

    Attributes:
        definition: The pipeline.
        params: A value for each parameter.
        layers: Configuration above the decorators, lowest first.
        step_params: What configuration says of single steps' literal inputs, by invocation name, lowest first.
        no_cache: Whether no earlier result may be used.
        has_hooks: Whether hooks of its steps are called.
    """

    definition: PipelineDefinition
    params: Mapping[str, Any]
    layers: Sequence[KnobLayer] = ()
    step_params: Sequence[Mapping[str, ParamLayer]] = ()
    no_cache: bool = False
    has_hooks: bool = True


def code_of(pipeline: PipelineDefinition) -> str:
    """Return the digest of all code that a pipeline function reaches, its steps too; of what can't be hashed, why."""
    tree = code_parts(pipeline.described)
    return f"unknown: {tree.uncacheable}" if tree.uncacheable else digest.code(part.digest for part in tree.parts)


def run_function(program: Program, conductor: Conducts) -> tuple[RunOutput, ...]:
    """Run the pipeline function; return its outputs, wired to calls by their places in the order of all calls.

    Args:
        program: The pipeline.
        conductor: Carries out each call.

    Raises:
        Exception: What the function raises.
        CompileError: A call, or what the function returned, is wrong.
    """
    pipeline = program.definition
    declared = read_signature(pipeline.described)
    with tracing(pipeline, conductor) as trace:
        private = [private_copy(program.params[name]) for name in declared.names]
        returned = call_bound(pipeline.function, declared, private)
        return returned_outputs(pipeline, trace, returned)


def private_copy(value: Any) -> Any:
    """Return a copy that a pipeline function may change without changing a default or the caller's object."""
    return value if values.is_immutable(value) else values.decode(values.encode(value), cast("object", type(value)))


class Calls:
    """Compiles the calls of one dynamic run, one by one, and grows the tables that they refer to."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._known = check.Known()
        self._compiler = StepCompiler(program.definition.name, program.layers, no_cache=program.no_cache)
        # The literals that configuration overrides are wired as those of a trace are.
        self._trace = Trace(program.definition.name, (program.definition,))

    def restore(self, additions: Iterable[Addition]) -> None:
        """Go on with the tables of an earlier drive of the run."""
        parts: dict[int, CodePart] = {}
        places: dict[int, str] = {}
        options: dict[int, StepOptions] = {}
        for addition in additions:
            parts |= addition.parts
            places |= addition.places
            options |= addition.options
        self._compiler.restore(in_order(parts), in_order(places), in_order(options))

    def check(self, node: Node) -> None:
        """Check a call as it was made.

        Raises:
            CompileError: A rule is broken.
        """
        for said in self._program.step_params:
            override_call(self._trace, node, said)
        for rule in check.RULES:
            for problem in rule(node, self._known):
                raise problem

    def compile(self, node: Node, key: str, number: int) -> tuple[Addition, LiveStep]:
        """Return what a call is, once its name is known and its inputs are positions in the graph."""
        compiler = self._compiler
        parts, options = len(compiler.parts), len(compiler.options)
        compiler.add(node)
        spec, live = compiler.steps.pop(), compiler.live.pop()
        if not self._program.has_hooks:
            live = msgspec.structs.replace(live, hooks={})
        new = dict(enumerate(list(compiler.parts)[parts:], parts)) if len(compiler.parts) > parts else {}
        places = dict(enumerate(compiler.places[parts:], parts))
        gained = dict(enumerate(compiler.options[options:], options))
        return Addition(spec, key, number, new, places, gained), live


def key_of(node: Node, inputs: Iterable[tuple[str, Sequence[bytes]]]) -> str:
    """Return the content key of a call.

    Args:
        node: The call.
        inputs: What each parameter gets: literals, and digests of outputs.
    """
    step = node.definition
    nested = "/".join(pipeline.name for pipeline in node.pipelines[1:])
    parts = [nested.encode(), source_name(step.function).encode(), step.name.encode(), step.label.encode()]
    for name, content in inputs:
        parts += [b"input", name.encode(), str(len(content)).encode(), *content]
    return digest.call_key(parts)


def replaced(before: Addition, now: Addition) -> Addition:
    """Return what a call is now in place of what it was, with all that the tables gained by either."""
    return msgspec.structs.replace(
        now,
        parts=before.parts | now.parts,
        places=before.places | now.places,
        options=before.options | now.options,
    )


def is_edited(before: StepSpec, now: StepSpec) -> bool:
    """Tell whether a step's code isn't what it was."""
    return before.code_digest != now.code_digest or before.source != now.source
