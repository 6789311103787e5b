"""Literal inputs of single steps that configuration says otherwise."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from cupola.compiler.config import ParamLayer, resolve_params
from cupola.compiler.nodes import Node
from cupola.compiler.trace import Trace, wire
from cupola.errors import ConfigError
from cupola.snapshot import Literal


def override_literals(trace: Trace, said: Mapping[str, ParamLayer]) -> None:
    """Replace literal inputs of the calls of a trace by what configuration says of them, in place.

    Raises:
        ConfigError: An input is unknown, gets an output, or its value isn't what its type wants.
    """
    for node in trace.nodes:
        override_call(trace, node, said)


def override_call(trace: Trace, node: Node, said: Mapping[str, ParamLayer]) -> None:
    """Do for one call what `override_literals` does for all."""
    layer = said.get(node.name)
    if layer is None:
        return
    wired = [name for name in layer.values if not isinstance(node.inputs.get(name, None), Literal | None)]
    if wired:
        is_spread = node.fan is not None and wired[0] in node.fan.over
        what = "spread over the children of the step" if is_spread else "the output of another step"
        raise ConfigError(
            f"steps.{node.name}.params.{wired[0]} can't be set: that input is {what}",
            where=layer.origin,
            fix="set a parameter of the pipeline or of the step that makes it",
        )
    arguments = dict(zip(node.inputs, node.arguments, strict=True))
    parameters = [
        msgspec.structs.replace(parameter, has_default=True, default=arguments[parameter.name])
        for parameter in node.signature.parameters
        if isinstance(node.inputs[parameter.name], Literal)
    ]
    values_now, _origins = resolve_params(parameters, [layer], pipeline=f"step {node.name}")
    for name in layer.values:
        arguments[name] = values_now[name]
        node.inputs[name] = wire(trace, values_now[name], f"{node.name}.{name}", node.site)
    node.arguments = tuple(arguments.values())
