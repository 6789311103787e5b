"""Layered configuration: which value of a parameter or option holds, and where it was said.

From the lowest: defaults, decorators, `with_options`, `config.yaml` beside the pipeline's file, `--config`, the
environment, and at the top call arguments and `--param`. A layer that is a mapping overrides the fields it names and
leaves their siblings. Option layers are merged by `options.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec
from msgspec import UNSET, UnsetType

from cupola import compiler
from cupola.classes import field_annotations
from cupola.compiler.convert import convert
from cupola.compiler.options import KnobLayer
from cupola.compiler.written import Fields, Text
from cupola.entities.options import Model, PipelineKnobs, StepKnobs
from cupola.errors import ConfigError
from cupola.suggest import nearest

FILE_KEYS = (
    "params", "cache", "retry", "on_error", "tags", "model", "env", "secrets", "settings", "steps", "profiles",
)  # fmt: skip
STEP_KEYS = ("params", "cache", "retry", "timeout", "model", "env", "secrets", "settings")
_WHOLE_RUN = ("on_error", "tags", "steps", "profiles")
ENVIRONMENT = "CUPOLA_PARAM_"
DEFAULT_FILE = "config.yaml"


class ConfigFile(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration file.

    Attributes:
        path: Its path as it was given.
        params: What it says of the pipeline's parameters.
        knobs: What it says of options.
        step_params: What it says of single steps' parameters, by invocation name.
        places: `file:line` of each option, by dotted path: `cache`, `steps.fit.retry`.
        profiles: Named sets of configuration; choosing one is not part of this version.
    """

    path: Path
    params: ParamLayer
    knobs: KnobLayer
    step_params: Mapping[str, ParamLayer] = {}
    places: Mapping[str, str] = {}
    profiles: Fields | None = None


class ParamLayer(msgspec.Struct, frozen=True):
    """What one source says of parameters.

    Attributes:
        origin: Where it was said, for people, when a value doesn't know it better: `call`, `--param`.
        values: Objects, or trees as written, by parameter name.
    """

    origin: str
    values: Mapping[str, Any] = {}


class Named(Protocol):
    """What is read of a parameter; `signature.Parameter` is one."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def annotation(self) -> Any:
        """Its type."""
        ...

    @property
    def has_default(self) -> bool:
        """Whether it may be left out."""
        ...

    @property
    def default(self) -> Any:
        """Its default."""
        ...


# Reading


def read_config_file(path: Path) -> ConfigFile:
    """Read a configuration file.

    Raises:
        NotFound: There is no such file.
        ConfigError: It is no YAML, or a key or value makes no sense; the message has file and line.
    """
    return _config(path, compiler.yaml_tree.read_yaml(path))


def find_config_file(source_file: str) -> ConfigFile | None:
    """Read `config.yaml` beside a pipeline's file; None where there is none, or it belongs to something else.

    A file is taken for something else's when none of its keys is known or near to a known one.
    """
    path = Path(os.path.dirname(os.path.abspath(source_file)), DEFAULT_FILE)
    if not path.is_file():
        return None
    tree = compiler.yaml_tree.read_yaml(path)
    if isinstance(tree, Fields) and not any(
        key.text in FILE_KEYS or nearest(key.text, FILE_KEYS) for key, _ in tree.items
    ):
        return None
    return _config(path, tree)


def _config(path: Path, tree: Any) -> ConfigFile:
    name = str(path)
    fields = _section(tree, name, "the file")
    _refuse_unknown(fields, FILE_KEYS, "")
    places: dict[str, str] = {}
    pipeline = _knobs(fields, PipelineKnobs, "", places)
    steps: dict[str, StepKnobs] = {}
    step_params: dict[str, ParamLayer] = {}
    for step, said in _section(fields.get("steps"), name, "steps").items:
        own = _section(said, name, f"steps.{step.text}")
        _refuse_unknown(own, STEP_KEYS, f"steps.{step.text}.")
        steps[step.text] = _knobs(own, StepKnobs, f"steps.{step.text}.", places)
        if own.get("params") is not None:
            step_params[step.text] = _params(own, name, f"steps.{step.text}.params")
    profiles = fields.get("profiles")
    return ConfigFile(
        path=path,
        params=_params(fields, name, "params"),
        knobs=KnobLayer(origin=name, pipeline=pipeline, steps=steps),
        step_params=step_params,
        places=places,
        profiles=_section(profiles, name, "profiles") if profiles is not None else None,
    )


def _section(tree: Any, place: str, what: str) -> Fields:
    if isinstance(tree, Fields):
        return tree
    if tree is None or (isinstance(tree, Text) and not tree.text and not tree.quoted):
        return Fields(())
    place = tree.place if isinstance(tree, Text) else place
    raise ConfigError(
        f"{what} must be a mapping, `name: value` on each line", where=place, fix="see the docs on config.yaml"
    )


def _params(fields: Fields, name: str, what: str) -> ParamLayer:
    params = _section(fields.get("params"), name, what)
    return ParamLayer(name, {key.text: item for key, item in params.items})


def _refuse_unknown(fields: Fields, known: Sequence[str], prefix: str) -> None:
    for key, _ in fields.items:
        if key.text in known:
            continue
        if prefix and key.text in _WHOLE_RUN:
            raise ConfigError(
                f"{prefix}{key.text}: {key.text!r} holds for the whole run",
                where=_line(key.place),
                fix="move it to the top",
            )
        guess = nearest(key.text, known)
        fix = f"did you mean {guess!r}?" if guess else f"known are: {', '.join(known)}"
        raise ConfigError(f"there is no key {prefix + key.text!r}", where=_line(key.place), fix=fix)


def _knobs(fields: Fields, cls: Any, prefix: str, places: dict[str, str]) -> Any:
    types = field_annotations(cls)
    said: dict[str, Any] = {}
    for key, tree in fields.items:
        if key.text in cls.__struct_fields__:
            said[key.text] = _knob(tree, types[key.text], prefix + key.text)
            places[prefix + key.text] = _line(key.place)
    return cls(**said)


def _knob(tree: Any, annotation: Any, where: str) -> Any:
    members = tuple(member for member in annotation.__args__ if member is not UnsetType)
    if Model in members and isinstance(tree, Text):
        return Model(tree.expanded())
    wanted = members[0]
    for member in members[1:]:
        wanted = wanted | member
    return convert(tree, wanted, where=where)


def environment_layer(parameters: Iterable[Named], environment: Mapping[str, str], folder: Path) -> ParamLayer:
    """Return what `CUPOLA_PARAM_<NAME>` variables say; a relative path in one starts at the given folder.

    Raises:
        ConfigError: A variable is nearly called like a parameter, but not quite.
    """
    names = {ENVIRONMENT + parameter.name.upper(): parameter.name for parameter in parameters}
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(ENVIRONMENT):
            continue
        place = f"environment variable {variable}"
        if variable in names:
            values[names[variable]] = Text(text, place=place, folder=str(folder))
        elif guess := nearest(variable, names):
            # Others may belong to other pipelines that the same shell starts.
            raise ConfigError(
                f"no parameter is called like {variable}", where="environment", fix=f"did you mean {guess}?"
            )
    return ParamLayer("environment", values)


def argument_layers(arguments: Iterable[str], folder: Path) -> list[ParamLayer]:
    """Return what `--param a.b=1` arguments say, in order; a relative path in one starts at the given folder.

    Raises:
        ConfigError: One isn't of this form.
    """
    layers: list[ParamLayer] = []
    for argument in arguments:
        path, equals, text = argument.partition("=")
        names = path.strip().split(".")
        if not equals or not all(names):
            raise ConfigError(
                f"--param {argument!r} has no name and value", where="command line", fix="write --param name=value"
            )
        place = f"--param {path.strip()}"
        tree: Any = Text(text, place=place, folder=str(folder))
        for name in reversed(names[1:]):
            tree = Fields(((Text(name, quoted=True, place=place), tree),), place)
        layers.append(ParamLayer("--param", {names[0]: tree}))
    return layers


def call_layer(arguments: Mapping[str, Any]) -> ParamLayer:
    """Return what the arguments of a call say."""
    return ParamLayer("call", arguments)


# Resolving


def resolve_params(
    parameters: Sequence[Named], layers: Sequence[ParamLayer], *, pipeline: str = "", root: Path | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the value of each parameter, in order, and where each was said by dotted path.

    Args:
        parameters: The parameters of a function.
        layers: What the sources say, the lowest first.
        pipeline: Name of the pipeline, for errors.
        root: Source root, which paths given in code are relative to.

    Raises:
        ConfigError: A name is unknown, a value isn't what its type wants, or one is missing.
    """
    names = [parameter.name for parameter in parameters]
    owner = f" of {pipeline}" if pipeline else ""
    for layer in layers:
        for name, tree in layer.values.items():
            if name not in names:
                raise _unknown(name, names, owner, _origin(tree, layer.origin))
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for parameter in parameters:
        said = [(layer.values[parameter.name], layer.origin) for layer in layers if parameter.name in layer.values]
        values[parameter.name] = _resolve(parameter, said, origins, owner, root)
    return values, origins


def _resolve(
    parameter: Named, said: list[tuple[Any, str]], origins: dict[str, str], owner: str, root: Path | None
) -> Any:
    name = parameter.name
    where = f"parameter {name!r}{owner}"
    value: Any = UNSET
    if parameter.has_default:
        origins[name] = "default"
        value = parameter.default
        if value is not None and value is not UNSET:
            value = convert(value, parameter.annotation, where=f"the default of {where}", root=root)
    tree: Any = UNSET
    for item, origin in said:
        if isinstance(item, Fields):
            tree = _merged(tree, item) if isinstance(tree, Fields) else item
            if name not in origins:
                origins[name] = _origin(item, origin)
            _note(item, name, origin, origins)
            continue
        if isinstance(item, Text) and isinstance(tree, Fields) and item.may_hold_structure():
            value = convert(tree, parameter.annotation, where=where, root=root, base=_base(value))
        for path in [path for path in origins if path.startswith(name + ".")]:
            del origins[path]
        origins[name] = _origin(item, origin)
        tree = item
        if not isinstance(item, Text):
            # An object is a whole value; what is said above may still change fields of it.
            value, tree = convert(item, parameter.annotation, where=where, root=root), UNSET
    if tree is not UNSET:
        value = convert(tree, parameter.annotation, where=where, root=root, base=_base(value))
    if value is UNSET:
        raise ConfigError(
            f"{where} has no value",
            fix=f"pass {name}=… in the call, --param {name}=…, {ENVIRONMENT}{name.upper()}, or `params:` in --config",
        )
    return value


def _base(value: Any) -> Any:
    return None if value is UNSET else value


def _merged(lower: Fields, higher: Fields) -> Fields:
    """Lay one mapping over another, field by field."""
    items = {key.text: (key, item) for key, item in lower.items}
    for key, item in higher.items:
        below = items[key.text][1] if key.text in items else None
        merged = _merged(below, item) if isinstance(below, Fields) and isinstance(item, Fields) else item
        items[key.text] = key, merged
    return Fields(tuple(items.values()), higher.place)


def _note(tree: Any, path: str, origin: str, origins: dict[str, str]) -> None:
    if not isinstance(tree, Fields):
        origins[path] = _origin(tree, origin)
        return
    for key, item in tree.items:
        _note(item, f"{path}.{key.text}", origin, origins)


def _origin(tree: Any, origin: str) -> str:
    while isinstance(tree, list) and tree:
        tree = cast("list[Any]", tree)[0]
    place = tree.place if isinstance(tree, (Text, Fields)) else ""
    if place.startswith("environment variable "):
        return f"environment ({place[21:]})"
    return origin if not place or place.startswith("--param") else _line(place)


def _line(place: str) -> str:
    """Return `file:line` of `file:line:column`."""
    head, _, column = place.rpartition(":")
    return head if column.isdigit() and head.rpartition(":")[2].isdigit() else place


def _unknown(name: str, names: Sequence[str], owner: str, place: str) -> ConfigError:
    guess = nearest(name, names)
    return ConfigError(
        f"there is no parameter {name!r}{owner}",
        where=place,
        fix=f"did you mean {guess!r}?" if guess else f"its parameters are: {', '.join(names) or 'none'}",
    )
