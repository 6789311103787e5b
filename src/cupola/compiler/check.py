"""The rules that a traced pipeline must keep before it becomes a snapshot: types and names.

A rule looks at one step call and yields what is wrong with it. All problems of a pipeline are told at once. What is the
same for many calls is looked at once: `Known` remembers it, or a long chain would cost as much as its steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

from cupola.compiler.annotations import NO_ANNOTATION, place_of, type_text
from cupola.compiler.assignable import is_assignable, is_instance
from cupola.compiler.items import is_list_type, item_type, items_fit
from cupola.compiler.names import name_problem
from cupola.compiler.nodes import Node, Output, PipelineDefinition, Spread
from cupola.compiler.signature import OutputDeclaration, Parameter
from cupola.errors import CompileError, ConfigError
from cupola.suggest import nearest

LONGEST_NAME = 400
_SHOWN = 80
_REASONS = {"/": "separates a nested pipeline from its steps", "[": "marks the parts of a mapped step"}


def check_graph(nodes: Sequence[Node]) -> None:
    """Check the step calls of a pipeline.

    Raises:
        CompileError: At least one rule is broken; the message tells the first and counts the others, one line each.
    """
    problems = find_problems(nodes)
    if not problems:
        return
    first, *others = problems
    if not others:
        raise first
    lines = [f"- {problem.what} ({problem.where})" for problem in others]
    raise CompileError(first.what, where=first.where, fix="\n".join([first.fix, f"and {len(others)} more:", *lines]))


def find_problems(nodes: Sequence[Node]) -> list[CompileError]:
    """Return everything that the rules find, in the order of the calls; an equal problem once."""
    known = Known()
    found = {str(problem): problem for node in nodes for rule in RULES for problem in rule(node, known)}
    return list(found.values())


class Known:
    """What has been found of what many calls share; by identity, since all of it lives as long as the calls.

    Attributes:
        named: The callees whose names were looked at, and the labels of their calls.
        fitting: The declared outputs and parameters that fit, in pairs, with whether the outputs are of mapped steps.
    """

    def __init__(self) -> None:
        self.named: set[tuple[int, str]] = set()
        self.fitting: set[tuple[int, int, bool]] = set()


def unknown_step(name: str, names: Iterable[str], origin: str) -> ConfigError:
    """Return the error for a configuration that names a step which the pipeline doesn't have."""
    known = sorted(names)
    guess = nearest(name, known)
    listed = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return ConfigError(
        f"there is no step {name!r} in this pipeline",
        where=origin,
        fix=f"did you mean {guess!r}?" if guess else f"its steps are: {listed or 'none'}",
    )


def names_are_valid(node: Node, known: Known) -> Iterable[CompileError]:
    """Names of the step, of this call and of the pipelines around it can be shown and told apart."""
    key = id(node.callee), node.definition.label
    if key in known.named:
        return ()
    known.named.add(key)
    return _problems_of_names(node)


def _problems_of_names(node: Node) -> Iterator[CompileError]:
    step = node.definition
    for kind, name in (("step", step.name), ("step", step.label or step.name)):
        if problem := name_problem(name, LONGEST_NAME, "/[]"):
            yield _bad_name(kind, name, problem, node.place)
    for pipeline in node.pipelines:
        yield from _pipeline_name_is_valid(pipeline)


def _pipeline_name_is_valid(pipeline: PipelineDefinition) -> Iterator[CompileError]:
    if problem := name_problem(pipeline.name, LONGEST_NAME, "/"):
        yield _bad_name("pipeline", pipeline.name, problem, place_of(pipeline.described))


def check_pipeline(pipeline: PipelineDefinition) -> None:
    """Check the pipeline that is compiled, before it is traced.

    Raises:
        CompileError: Its name can't be used.
    """
    for problem in _pipeline_name_is_valid(pipeline):
        raise problem


def _bad_name(kind: str, name: str, problem: str, place: str) -> CompileError:
    reasons = [reason for letter, reason in _REASONS.items() if f"{letter!r}" in problem]
    why = f", which {reasons[0]}" if reasons else ""
    return CompileError(
        f"a {kind} can't have the name {name[:_SHOWN]!r}: {problem}{why}",
        where=place,
        fix="give it another name by name=… or .named(…)",
    )


def types_fit(node: Node, known: Known) -> Iterator[CompileError]:
    """What is passed to a step, outputs and plain values, is of the types that its function wants."""
    parameters = node.signature.parameters
    for place, value in enumerate(node.arguments):
        parameter = parameters[place]
        if isinstance(value, Spread):
            yield from _items_fit(node, parameter, value.value)
        elif isinstance(value, Output):
            output = cast("Output[Any]", value)
            pair = id(output.declaration), id(parameter), output.node.fan is not None
            if pair in known.fitting:
                continue
            if not _output_fits(output, parameter):
                yield _wrong_output(node, parameter, output)
                continue
            known.fitting.add(pair)
        elif not _value_fits(value, parameter):
            yield _wrong_value(node, parameter, value)


def _items_fit(node: Node, parameter: Parameter, spread: list[Any] | Output[Any]) -> Iterator[CompileError]:
    """What a mapped step is spread over is a list, and its items are what a child wants."""
    wanted = parameter.annotation
    if isinstance(spread, Output):
        if not is_list_type(spread.type):
            yield _no_list(node, parameter, spread)
        elif not items_fit(spread.type, wanted):
            yield _wrong_items(node, parameter, spread)
        return
    for index, item in enumerate(spread):
        fits = (
            _output_fits(cast("Output[Any]", item), parameter)
            if isinstance(item, Output)
            else _value_fits(item, parameter)
        )
        if not fits:
            yield _wrong_item(node, parameter, index, item, spread)
            return


def _no_list(node: Node, parameter: Parameter, output: Output[Any]) -> CompileError:
    return CompileError(
        f"{node.name} is mapped over {parameter.name}, but {_giver(output)} {type_text(output.type)}, "
        "which is one value and no list of items",
        where=node.place,
        fix=f"to pass it whole to each child: {parameter.name}=unmapped(…); or let {output.node.name}() give a list",
    )


def _wrong_items(node: Node, parameter: Parameter, output: Output[Any]) -> CompileError:
    wanted, given = type_text(parameter.annotation), item_type(output.type)
    items = f", whose items are {type_text(given)}" if given is not None else ""
    fix = _annotations_of(node, parameter, output.node)
    if is_assignable(output.type, parameter.annotation):
        fix = f"to pass it whole to each child: {parameter.name}=unmapped(…)"
    return CompileError(
        f"each child of {node.name}() wants {parameter.name}: {wanted} "
        f"but {_giver(output)} {type_text(output.type)}{items}",
        where=node.place,
        fix=fix,
    )


def _wrong_item(node: Node, parameter: Parameter, index: int, item: Any, items: list[Any]) -> CompileError:
    fix = f"pass items of that type, or change the annotation of {parameter.name} in {_place(node)}"
    if is_instance(items, parameter.annotation, every=True, stand_in=_type_of):
        fix = f"to pass the list whole to each child: {parameter.name}=unmapped(…)"
    given, wanted = _shown(item), type_text(parameter.annotation)
    return CompileError(
        f"each child of {node.name}() wants {parameter.name}: {wanted} but item {index} is {given}",
        where=node.place,
        fix=fix,
    )


def _output_fits(output: Output[Any], parameter: Parameter) -> bool:
    given, wanted = _type_of(output), parameter.annotation
    return given is wanted or wanted is NO_ANNOTATION or is_assignable(given, wanted)


def _value_fits(value: Any, parameter: Parameter) -> bool:
    # A default is the function's own affair: `rate: float = None` is often written.
    if parameter.annotation is NO_ANNOTATION or (parameter.has_default and value is parameter.default):
        return True
    return is_instance(value, parameter.annotation, every=True, stand_in=_type_of)


def check_returned(pipeline: PipelineDefinition, items: Sequence[Any], declared: Sequence[OutputDeclaration]) -> None:
    """Check what a pipeline function returned, outputs and plain values, against its annotation.

    Raises:
        CompileError: One is of another type.
    """
    for item, output in zip(items, declared, strict=True):
        wanted = output.annotation
        if isinstance(item, Output):
            given = _type_of(item)
            fits = given is wanted or is_assignable(given, wanted)
            found = f"{_giver(cast('Output[Any]', item))} {type_text(given)}"
        else:
            fits = is_instance(item, wanted, every=True, stand_in=_type_of)
            found = f"it returns {_shown(item)}"
        if not fits:
            raise CompileError(
                f"pipeline {pipeline.name!r} is annotated to return {output.name}: {type_text(wanted)} but {found}",
                where=place_of(pipeline.described),
                fix="change the annotation, or what the pipeline returns",
            )


RULES: tuple[Callable[[Node, Known], Iterable[CompileError]], ...] = (names_are_valid, types_fit)


def _type_of(value: Any) -> Any:
    """Return the type that an output stands for; None for plain values."""
    return cast("Output[Any]", value).type if isinstance(value, Output) else None


def _wrong_output(node: Node, parameter: Parameter, output: Output[Any]) -> CompileError:
    given = _type_of(output)
    wanted = type_text(parameter.annotation)
    producer = output.node
    fix = _annotations_of(node, parameter, producer)
    if output.is_mapped and is_assignable(item_type(given), parameter.annotation):
        fix = f"to run {node.definition.name} for each of them: {node.definition.name}.map({parameter.name}=…)"
    elif is_assignable(given, parameter.annotation | None if isinstance(parameter.annotation, type) else Any):
        fix = f"{producer.name}() may give None: annotate {parameter.name}: {wanted} | None and handle it there"
    return CompileError(
        f"{node.name}() wants {parameter.name}: {wanted} but {_giver(output)} {type_text(given)}",
        where=node.place,
        fix=fix,
    )


def _annotations_of(node: Node, parameter: Parameter, producer: Node) -> str:
    return (
        f"pass another output, or change one of the annotations: of {parameter.name} in {_place(node)}, "
        f"or of what is returned in {_place(producer)}"
    )


def _place(node: Node) -> str:
    return place_of(node.definition.function) or node.name


def _giver(output: Output[Any]) -> str:
    node = output.node
    call = f"{node.name}.{node.fan.kind}" if node.fan is not None else node.name
    return f"{call}() gives" if len(node.outputs) == 1 else f"output {output.name!r} of {call}() is"


def _wrong_value(node: Node, parameter: Parameter, value: Any) -> CompileError:
    wanted = type_text(parameter.annotation)
    return CompileError(
        f"{node.name}() wants {parameter.name}: {wanted} but got {_shown(value)}",
        where=node.place,
        fix=f"pass a value of that type, or change the annotation of {parameter.name} in {_place(node)}",
    )


def _shown(value: Any) -> str:
    if _has_output(value):
        text = _part_text(value)
        return text if len(text) <= 4 * _SHOWN else text[: 4 * _SHOWN] + "…"
    return f"{_cut_repr(value)}, of type {type_text(type(value))}"


def _has_output(value: Any) -> bool:
    kind = cast("Any", type(value))
    items = value.values() if kind is dict else value if kind is list or issubclass(kind, tuple) else ()
    return kind is Output or any(map(_has_output, items))


def _part_text(value: Any) -> str:
    kind = cast("Any", type(value))
    if kind is Output:
        return f"{value.node.name}() → {type_text(_type_of(value))}"
    if kind is dict:
        return "{" + ", ".join(f"{key!r}: {_part_text(item)}" for key, item in value.items()) + "}"
    if kind is list or issubclass(kind, tuple):
        inside = ", ".join(map(_part_text, value))
        return f"[{inside}]" if kind is list else f"({inside})"
    return _cut_repr(value)


def _cut_repr(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
