"""From a traced step call to what the snapshot says of it, and to what this process keeps beside it.

What all calls of one step share (its code, options, hooks) is worked out once, so that a call costs little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import msgspec
from msgspec import UNSET

from cupola import digest, values
from cupola.compiler.nodes import Node, Output, Spread
from cupola.compiler.options import KnobLayer, plain_options, step_knobs
from cupola.compiler.reach import code_parts
from cupola.compiler.signature import OutputDeclaration
from cupola.compiler.source import source_name
from cupola.entities.options import HOOKS, ArtifactConfig
from cupola.files import File
from cupola.snapshot import CodePart, Collect, FromStep, Literal, OutputSpec, Source, StepOptions, StepSpec


class LiveStep(msgspec.Struct, frozen=True, kw_only=True):
    """What the authoring process has of a step besides its spec.

    Attributes:
        function: The function to call.
        annotations: Annotation of each input by parameter name.
        positional: Names of the parameters that can't be given by name, in order.
        declarations: The declared outputs, with their annotations.
        multiple: Whether the function returns a tuple of outputs.
        retry_on: Exception classes that are worth another attempt; empty for all.
        hooks: Functions of the `StepRun` by event.
        files: Paths of files and folders among the literal inputs, by a name for people such as `file data.csv`.
        spreads_files: Whether there are some among the items that a mapped step is spread over.
    """

    function: Callable[..., Any]
    annotations: Mapping[str, Any]
    positional: tuple[str, ...]
    declarations: tuple[OutputDeclaration, ...]
    multiple: bool
    retry_on: tuple[type[BaseException] | str, ...]
    hooks: Mapping[str, Callable[[Any], object]]
    files: Mapping[str, str]
    spreads_files: bool = False


Wiring = tuple[bytes, ...]
"""What one input puts into a base key."""


class _Shared(msgspec.Struct, frozen=True):
    """What all calls of one step with the same options have in common.

    Attributes:
        source, code, code_digest, uncacheable, options_position: As in `StepSpec`.
        outputs: The declared outputs; one without an artifact of its own gets one that is named after the call.
        unnamed: Whether there is such an output.
        has_key: Whether calls have a base key.
        key_parts: What they all put into it.
        key_inputs: Names of the inputs that count for it, sorted.
        keys: The base keys found so far, by what the calls put into them.
        live: What this process keeps.
    """

    source: str
    code: tuple[int, ...]
    code_digest: str
    uncacheable: str
    options_position: int
    outputs: tuple[OutputSpec, ...]
    unnamed: bool
    has_key: bool
    key_parts: tuple[bytes, ...]
    key_inputs: tuple[str, ...]
    keys: dict[tuple[Wiring, ...], str]
    live: LiveStep


class StepCompiler:
    """Compiles the step calls of one pipeline, and keeps the tables that the snapshot has once for all of them.

    Attributes:
        steps: What the snapshot says of each step call, in order.
        live: What this process keeps of each.
        parts: All code parts, by place in the snapshot.
        places: `file:line` of each.
        options: All step options, by place in the snapshot.
    """

    def __init__(self, pipeline: str, layers: Sequence[KnobLayer], *, no_cache: bool = False) -> None:
        self.steps: list[StepSpec] = []
        self.live: list[LiveStep] = []
        self.parts: dict[CodePart, int] = {}
        self.places: list[str] = []
        self.options: list[StepOptions] = []
        self._pipeline = pipeline
        self._layers = layers
        self._no_cache = no_cache
        self._named = {name for layer in layers for name in layer.steps}
        self._option_places: dict[bytes, int] = {}
        self._shared: dict[int, _Shared] = {}

    def restore(self, parts: Sequence[CodePart], places: Sequence[str], options: Sequence[StepOptions]) -> None:
        """Go on with tables that were begun before."""
        self.parts = {part: position for position, part in enumerate(parts)}
        self.places = list(places)
        self.options = list(options)
        for position, option in enumerate(options):
            self._option_places.setdefault(_option_key(option), position)

    def add(self, node: Node) -> None:
        """Compile the next step call."""
        # A configuration file may name this very call.
        known = self._shared.get(id(node.callee)) if node.name not in self._named else None
        shared = known or self._share(node)
        self.steps.append(
            StepSpec(
                node.name,
                shared.source,
                shared.code,
                shared.code_digest,
                shared.uncacheable,
                node.inputs,
                self._outputs(node, shared),
                node.after,
                shared.options_position,
                _base_key(node, shared) if shared.has_key else "",
                node.fan,
            )
        )
        self.live.append(_with_files(shared.live, node))

    def _outputs(self, node: Node, shared: _Shared) -> tuple[OutputSpec, ...]:
        if not shared.unnamed:
            return shared.outputs
        prefix = f"{self._pipeline}/{node.name}/"
        return tuple([
            output if output.artifact else msgspec.structs.replace(output, artifact=prefix + output.name)
            for output in shared.outputs
        ])  # fmt: skip

    def _share(self, node: Node) -> _Shared:
        knobs = step_knobs(node, self._layers)
        literals = {name: source.value for name, source in node.inputs.items() if isinstance(source, Literal)}
        options = plain_options(knobs, node, literals)
        if self._no_cache:
            options = msgspec.structs.replace(options, cache_read=False)
        function = node.definition.function
        tree = code_parts(function)
        cached = (options.cache_read or options.cache_write) and options.cache_code
        source = source_name(function)
        code_digest = "" if tree.uncacheable else digest.code(part.digest for part in tree.parts)
        outputs = tuple(map(_output_spec, node.outputs))
        shared = _Shared(
            source=source,
            code=tuple(sorted(self._part(part, tree.places) for part in tree.parts)),
            code_digest=code_digest,
            uncacheable=tree.uncacheable if cached else "",
            options_position=self._option(options),
            outputs=outputs,
            unnamed=not all(output.artifact for output in outputs),
            has_key=(options.cache_read or options.cache_write) and not (cached and tree.uncacheable),
            key_parts=_fixed_key_parts(source, code_digest, options, node),
            key_inputs=_key_inputs(node, options),
            keys={},
            live=LiveStep(
                function=function,
                annotations={parameter.name: parameter.annotation for parameter in node.signature.parameters},
                positional=tuple(item.name for item in node.signature.parameters if item.positional_only),
                declarations=node.outputs,
                multiple=node.signature.multiple,
                retry_on=getattr(knobs.retry, "on", ()),
                hooks={name: hook for name in HOOKS if (hook := getattr(knobs, name)) is not UNSET},
                files={},
            ),
        )
        # A key function looks at this call's inputs.
        if options.cache_key is None and node.name not in self._named:
            self._shared[id(node.callee)] = shared
        return shared

    def _part(self, part: CodePart, places: Mapping[str, str]) -> int:
        position = self.parts.get(part)
        if position is None:
            position = self.parts[part] = len(self.parts)
            self.places.append(places.get(part.name, ""))
        return position

    def _option(self, options: StepOptions) -> int:
        key = _option_key(options)
        position = self._option_places.get(key)
        if position is None:
            position = self._option_places[key] = len(self.options)
            self.options.append(options)
        return position


def _option_key(options: StepOptions) -> bytes:
    return msgspec.msgpack.encode(options, order="deterministic")


def _fixed_key_parts(source: str, code_digest: str, options: StepOptions, node: Node) -> tuple[bytes, ...]:
    """Return what all calls of a step put into their base keys: code, options that count, declared outputs.

    How outputs are named as artifacts, retries, timeouts and other options that can't change the result are left out.
    """
    parts = [code_digest.encode() if options.cache_code else b"source:" + source.encode()]
    if options.cache_key is not None:
        parts += [b"key", options.cache_key]
    for name, value in sorted(options.env.items()):
        parts += [b"env", name.encode(), value.encode()]
    parts += [b"secret:" + name.encode() for name in sorted(options.secrets)]
    for output in node.outputs:
        chosen = output.config.materializer if output.config else None
        parts.append(f"output:{output.name}:{chosen or ''}".encode())
    parts += [b"ignore:" + name.encode() for name in options.cache_ignore]
    return tuple(parts)


def _key_inputs(node: Node, options: StepOptions) -> tuple[str, ...]:
    """Return the names of the inputs that count for the base key, sorted; a key of the user's stands for literals."""
    return tuple(
        name
        for name, source in sorted(node.inputs.items())
        if name not in options.cache_ignore and (options.cache_key is None or not isinstance(source, Literal))
    )


def _base_key(node: Node, shared: _Shared) -> str:
    # Calls of one step with the same literals have one key, and a long chain or loop is made of such calls. What is
    # spread is left to the keys of the children, each of which counts its own items only.
    over = node.fan.over if node.fan is not None else ()
    wired = tuple([_SPREAD if name in over else wiring(node.inputs[name]) for name in shared.key_inputs])
    known = shared.keys.get(wired)
    if known is None:
        parts = list(shared.key_parts)
        for name, put in zip(shared.key_inputs, wired, strict=True):
            parts += [b"input", name.encode(), *put]
        known = shared.keys[wired] = digest.base_key(parts)
    return known


def wiring(source: Source) -> Wiring:
    """Return the literals of an input and where outputs go in it; which outputs, decides the inputs key."""
    if isinstance(source, FromStep):
        return _OUTPUT
    if isinstance(source, Literal):
        return b"literal", source.value
    if isinstance(source, Collect):
        return (b"collect",)
    items = [part for item in source.items for part in wiring(item)]
    return source.kind.encode(), *source.keys, str(len(source.items)).encode(), *items


_OUTPUT: Wiring = (b"output",)
_SPREAD: Wiring = (b"spread",)


def _output_spec(declaration: OutputDeclaration) -> OutputSpec:
    config = declaration.config or ArtifactConfig()
    return OutputSpec(
        name=declaration.name,
        type=declaration.text,
        artifact=config.name or "",
        materializer=config.materializer or "",
        version="" if config.version is None else str(config.version),
        tags=config.tags,
        metadata={key: values.encode(value, path=f"metadata[{key!r}]") for key, value in config.metadata.items()},
        kind=config.kind,
    )


def _with_files(live: LiveStep, node: Node) -> LiveStep:
    """Add the files and folders among a call's literal inputs; those of a child are its own and not its siblings'."""
    if node.fan is None:
        files = files_in(node.arguments)
        return msgspec.structs.replace(live, files=files) if files else live
    files = files_in([value for value in node.arguments if not isinstance(value, Spread)])
    spread = files_in([value.value for value in node.arguments if isinstance(value, Spread)])
    return msgspec.structs.replace(live, files=files, spreads_files=bool(spread)) if files or spread else live


_NOTHING: Mapping[str, str] = {}
_NO_FILES = frozenset({Output, int, float, str, bool, bytes, type(None)})


def files_in(arguments: Sequence[Any]) -> Mapping[str, str]:
    """Return the paths of the files and folders among literal arguments, by a name for people."""
    if _NO_FILES.issuperset(map(type, arguments)):
        return _NOTHING
    found: dict[str, str] = {}
    pending: list[Any] = list(arguments)
    while pending:
        value = pending.pop()
        if type(value) in _NO_FILES:
            continue
        if isinstance(value, File):
            found[f"file {value.text}"] = value.text
        elif isinstance(value, Mapping):
            pending += cast("Mapping[Any, Any]", value).values()
        elif isinstance(value, (list, tuple, set, frozenset)):
            pending += cast("Iterable[Any]", value)
        else:
            kind = cast("Any", type(value))
            fields = getattr(kind, "__struct_fields__", None) or getattr(kind, "__dataclass_fields__", ())
            pending += [getattr(value, name, None) for name in fields]
    return dict(sorted(found.items()))
