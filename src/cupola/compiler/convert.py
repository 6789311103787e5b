"""Parameters as people write them, made into what the annotation says: text, YAML, mappings, objects.

`Text` is a scalar as it was written, `Fields` a mapping of them; lists are lists. A `str` parameter gets the text as
written; nothing is guessed from how a text looks unless the annotation leaves it open (YAML 1.2 core meaning then).
Conversions of single words are in `scalars.py`; building classes from fields is here.
"""

from __future__ import annotations

import collections.abc
import enum
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any, TypeGuard, Union, cast

import msgspec

from cupola import compiler
from cupola.compiler import scalars
from cupola.compiler.annotations import NO_ANNOTATION, open_alias, type_text
from cupola.compiler.assignable import is_instance
from cupola.compiler.blueprint import Blueprint, blueprint, refusal
from cupola.compiler.unfit import Unfit, refuse
from cupola.compiler.written import Fields, Text, is_dict, is_list, is_mapping, is_written, plain
from cupola.errors import ConfigError, CupolaError
from cupola.suggest import nearest

_UNIONS = (Union, types.UnionType)
_WRAPPERS = (typing.Annotated, typing.Required, typing.NotRequired, typing.Final, typing.ClassVar)
_ANYTHING = (Any, object, NO_ANNOTATION, msgspec.UNSET)
_SEQUENCES: dict[Any, Callable[[list[Any]], Any]] = {
    list: list, tuple: tuple, set: set, frozenset: frozenset, collections.deque: collections.deque,
    collections.abc.Sequence: list, collections.abc.MutableSequence: list, collections.abc.Collection: list,
    collections.abc.Iterable: list, collections.abc.Set: frozenset, collections.abc.MutableSet: set,
}  # fmt: skip
# A type checker takes a protocol for its data, which it has none of.
_PATH: Any = os.PathLike
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def convert(value: object, annotation: Any, *, where: str, root: Path | None = None, base: object = None) -> Any:
    """Return a value as its annotation wants it.

    Args:
        value: An object; or a `Text`, `Fields` or list of them, as it was written.
        annotation: The type, with its names resolved.
        where: What the value is for, for the error: `parameter 'rate'`.
        root: Source root, which paths that objects hold are relative to.
        base: What holds below; the fields that `Fields` don't name are taken from it.

    Raises:
        ConfigError: It can't be made into one. The message names value, key and type and shows how to write one.
    """
    try:
        return _Conversion(root).convert(value, annotation, base)
    except Unfit as unfit:
        raise refuse(unfit, where, value) from unfit.__cause__


class _Conversion:
    """One conversion; holds the source root."""

    def __init__(self, root: Path | None) -> None:
        self.root = root

    def convert(self, value: Any, annotation: Any, base: Any = None) -> Any:
        annotation = _bare(annotation)
        origin = typing.get_origin(annotation)
        if annotation in _ANYTHING:
            return self._anything(value, base)
        if origin in _UNIONS:
            return self._union(value, typing.get_args(annotation), annotation, base)
        if not isinstance(value, (Text, Fields)) and _holds(value, annotation):
            return value
        if origin is typing.Literal:
            return self._choice(
                value, annotation, lambda: compiler.choices.choose_literal(value, typing.get_args(annotation))
            )
        if isinstance(annotation, typing.NewType):
            return self.convert(value, annotation.__supertype__, base)
        if isinstance(annotation, typing.TypeVar):
            return self.convert(value, annotation.__bound__ or Any, base)
        return self._class(value, annotation, origin or annotation, base)

    def _class(self, value: Any, annotation: Any, cls: Any, base: Any) -> Any:
        if not isinstance(cls, type):
            return self._anything(value, base)
        if cls in _SEQUENCES:
            return self._sequence(value, annotation, cls)
        if cls in _MAPPINGS:
            return self._mapping(value, annotation, base)
        plan = blueprint(cls)
        if plan is not None:
            return self._fields(value, plan, annotation, base)
        text = value if isinstance(value, Text) else None
        if text is None and isinstance(value, str) and not isinstance(value, enum.Enum) and _may_be_text(cls):
            # In code a string stands for dates, paths and enums; a number must be a number.
            text = Text(value, quoted=True)
        if text is not None:
            return self._scalar(text, cls, annotation, said=value)
        raise Unfit(value, annotation, _hint(cls))

    def _scalar(self, text: Text, cls: Any, annotation: Any, said: Any) -> Any:
        if issubclass(cls, _PATH):
            return self._path(text, cls)
        if issubclass(cls, enum.Enum):
            return self._choice(said, annotation, lambda: compiler.choices.choose_member(text.expanded(), cls))
        reader = scalars.reader_for(cls)
        if reader is None:
            if cls is type(None):
                raise Unfit(said, annotation, "write null")
            raise Unfit(said, annotation, "it can't be written as text: let a step make it, or pass it in code")
        try:
            return reader.read(text.expanded())
        except (ValueError, ArithmeticError, OverflowError) as error:
            raise Unfit(said, annotation, reader.hint) from (None if isinstance(said, Text) else error)

    def _choice(self, said: Any, annotation: Any, choose: Callable[[], Any]) -> Any:
        try:
            return choose()
        except compiler.choices.NoChoice as error:
            raise Unfit(said, annotation, error.hint) from None

    def _path(self, text: Text, cls: Any) -> Any:
        """Read a path. `File` and `Folder` are relative to the source root; a `Path` is used as it is by the code."""
        written = os.path.expanduser(text.expanded())
        if not written:
            raise Unfit(text, cls, "write a path, such as data/flights.csv")
        folder = text.folder
        if not folder or os.path.isabs(written):
            return cls(written)
        path = os.path.normpath(os.path.join(folder, written))
        if issubclass(cls, PurePath):
            # Code opens it from the current folder, so what was written there may stay.
            return cls(written if os.path.abspath(folder) == os.getcwd() else path)
        if self.root is not None:
            base = os.path.abspath(self.root)
            if os.path.commonpath((os.path.abspath(path), base)) == base:
                return cls(os.path.relpath(path, base))
        return cls(path)

    def _anything(self, value: Any, base: Any) -> Any:
        if isinstance(value, Fields):
            cls = cast(Any, type(base))
            plan = blueprint(cls)
            if plan is not None:
                return self._fields(value, plan, cls, base)
            held: dict[Any, Any] = base if is_dict(base) else {}
            made = {plain(key): self._anything(item, held.get(plain(key))) for key, item in value.items}
            return {**held, **made}
        if isinstance(value, Text):
            tree = _parsed(value) if value.may_hold_structure() else value
            return plain(tree) if isinstance(tree, Text) else self._anything(tree, base)
        if is_list(value) and is_written(value):
            return [self._anything(item, None) for item in value]
        return value

    def _union(self, value: Any, members: tuple[Any, ...], annotation: Any, base: Any) -> Any:
        if any(_holds(value, member) for member in members):
            return value
        if isinstance(value, Text):
            return self._union_text(value, members, annotation, base)
        fits: list[tuple[Any, Any]] = []
        failures: list[Unfit] = []
        for member in members:
            # A field may be overridden in what holds below, which then says the member that is meant.
            own = base if base is not None and _holds(base, member) else None
            if isinstance(value, Fields) and own is not None:
                return self.convert(value, member, own)
            try:
                fits.append((member, self.convert(value, member)))
            except Unfit as unfit:
                # What is structured can only have meant a member that is: its reason is the one to tell.
                failures.insert(0 if _is_structure(_bare(member)) else len(failures), unfit)
        structured = sum(_is_structure(_bare(member)) for member in members)
        return _only(fits, failures[:1] if structured == 1 else failures, value, annotation)

    def _union_text(self, value: Text, members: tuple[Any, ...], annotation: Any, base: Any) -> Any:
        text = value.expanded()
        bare = [_bare(member) for member in members]
        if type(None) in bare and not value.quoted and scalars.is_null(text, empty=value.implicit_null):
            return None
        structured = [member for member in bare if _is_structure(member)]
        tree = _parsed(value) if structured and value.may_hold_structure() else value
        if not isinstance(tree, Text):
            try:
                return self._union(tree, tuple(structured), annotation, base)
            except Unfit:
                if str not in bare:
                    raise
        if str in bare:
            return _word(text, value, bare)
        return self._narrowest(value, [member for member in bare if member is not type(None)], annotation)

    def _narrowest(self, value: Text, members: list[Any], annotation: Any) -> Any:
        """Read a text as the first type that it fits, bool before int before float."""
        order = (bool, int, float, complex)
        failures: list[Unfit] = []
        for member in sorted(members, key=lambda member: order.index(member) if member in order else len(order)):
            try:
                return self.convert(value, member)
            except Unfit as unfit:
                failures.append(unfit)
        if len(failures) == 1:
            raise failures[0]
        raise Unfit(value, annotation, " or ".join(dict.fromkeys(f.hint for f in failures if f.hint)))

    def _sequence(self, value: Any, annotation: Any, cls: Any) -> Any:
        args = typing.get_args(annotation)
        if isinstance(value, Text) and value.may_hold_structure():
            value = _parsed(value)
        if not _is_iterable(value) or is_mapping(value):
            example = "[a, b]" if args[:1] == (str,) else "[1, 2]"
            raise Unfit(value, annotation, f"write a list, such as {example}" if is_written(value) else "")
        items = list(value)
        if cls is tuple and args and args[-1] is not Ellipsis:
            if len(items) != len(args):
                raise Unfit(value, annotation, f"it has {len(args)} items")
            return tuple(self._part(item, arg, str(i)) for i, (item, arg) in enumerate(zip(items, args, strict=True)))
        made = [self._part(item, args[0] if args else Any, str(i)) for i, item in enumerate(items)]
        try:
            return _SEQUENCES[cls](made)
        except TypeError as error:
            raise Unfit(value, annotation, "its items must be hashable") from error

    def _mapping(self, value: Any, annotation: Any, base: Any) -> Any:
        if isinstance(value, Text) and value.may_hold_structure():
            value = _parsed(value)
        key_type, item_type = typing.get_args(annotation) or (Any, Any)
        held: Mapping[Any, Any] = base if is_mapping(base) else {}
        if isinstance(value, Fields):
            made: dict[Any, Any] = {}
            for key, item in value.items:
                name = self._part(key, key_type, key.text)
                made[name] = self._part(item, item_type, key.text, held.get(name))
            return {**held, **made}
        if not is_mapping(value):
            raise Unfit(value, annotation, "write a mapping, such as {a: 1}" if is_written(value) else "")
        return {self._part(k, key_type, str(k)): self._part(item, item_type, str(k)) for k, item in value.items()}

    def _fields(self, value: Any, plan: Blueprint, annotation: Any, base: Any) -> Any:
        if isinstance(value, Text) and value.may_hold_structure():
            value = _parsed(value)
        if plan.positional and isinstance(value, (list, tuple)):
            value = dict(zip(plan.fields, cast("list[Any]", value), strict=False))
        given = _entries(value)
        if given is None:
            example = next(iter(plan.fields), "field")
            raise Unfit(
                value, annotation, f"write its fields as a mapping: {{{example}: …}}" if is_written(value) else ""
            )
        held = plan.take(base) if base is not None and isinstance(value, Fields) and isinstance(base, plan.cls) else {}
        made: dict[str, Any] = {}
        for key, item, said in given:
            name = plan.names.get(key)
            if name is None:
                raise _unknown(key, plan, said)
            made[name] = self._field(item, plan.fields[name], key, held.get(name), plan)
        return self._build(plan, {**held, **made}, value)

    def _field(self, item: Any, annotation: Any, key: str, base: Any, plan: Blueprint) -> Any:
        if plan.validates and _is_foreign(annotation):
            return self._anything(item, base)
        return self._part(item, annotation, key, base)

    def _build(self, plan: Blueprint, fields: dict[str, Any], value: Any) -> Any:
        missing = [name for name in plan.required if name not in fields]
        if missing:
            reason = f"has no value for {', '.join(map(repr, missing))} of {plan.name}"
            raise Unfit(value, plan.cls, "give it one", reason=reason)
        try:
            return plan.make(fields)
        except CupolaError as error:
            raise Unfit(value, plan.cls, error.fix, reason=f"is refused: {error.what}") from error
        except Exception as error:  # constructors and validators of the user's may raise anything
            reason = f"is refused by {plan.name}: {refusal(error)}"
            raise Unfit(value, plan.cls, reason=reason) from error

    def _part(self, value: Any, annotation: Any, key: str, base: Any = None) -> Any:
        try:
            return self.convert(value, annotation, base)
        except Unfit as unfit:
            unfit.key = f"{key}.{unfit.key}" if unfit.key else key
            raise


def _bare(annotation: Any) -> Any:
    annotation = open_alias(annotation)
    while typing.get_origin(annotation) in _WRAPPERS:
        annotation = open_alias(typing.get_args(annotation)[0])
    return type(None) if annotation is None else annotation


def _holds(value: object, annotation: Any) -> bool:
    return (
        not isinstance(value, (Text, Fields)) and not is_written(value) and is_instance(value, annotation, every=True)
    )


def _parsed(text: Text) -> Any:
    """Return what a text of the command line is when read as YAML; the text itself when it can't be."""
    try:
        return compiler.yaml_tree.parse_text(text.text, text.place, text.folder)
    except ConfigError:
        return text


def _is_iterable(value: object) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, collections.abc.Iterable) and not isinstance(value, (str, bytes, Fields))


def _entries(value: Any) -> list[tuple[str, Any, Any]] | None:
    if isinstance(value, Fields):
        return [(key.text, item, key) for key, item in value.items]
    if is_mapping(value):
        return [(str(key), item, key) for key, item in value.items()]
    return None


def _unknown(key: str, plan: Blueprint, said: Any) -> Unfit:
    guess = nearest(key, plan.names)
    hint = f"did you mean {guess!r}?" if guess else f"its fields are: {', '.join(plan.names) or 'none'}"
    return Unfit(said, plan.cls, hint, reason=f"has no field {key!r} ({plan.name})")


def _word(text: str, value: Text, members: list[Any]) -> Any:
    """Return what a word means where it may also stay a text: a number if nothing gets lost."""
    if value.quoted or scalars.has_leading_zero(text):
        return text
    meaning = scalars.core_meaning(text, empty=value.implicit_null)
    if type(meaning) in members:
        return meaning
    return float(meaning) if type(meaning) is int and float in members else text


def _only(fits: list[tuple[Any, Any]], failures: list[Unfit], value: Any, annotation: Any) -> Any:
    if len(fits) == 1:
        return fits[0][1]
    if fits:
        names = " and ".join(type_text(member) for member, _ in fits)
        classes = [member for member, _ in fits if isinstance(member, type) and blueprint(member) is not None]
        if len(classes) > 1:
            raise Unfit(
                value, annotation, "pass an object in code", reason=f"fits {names} alike, so it isn't clear which"
            )
        return fits[0][1]
    if len(failures) == 1:
        raise failures[0]
    raise Unfit(value, annotation, " or ".join(dict.fromkeys(f.hint for f in failures if f.hint)))


def _may_be_text(cls: Any) -> bool:
    """Whether a string in code may stand for an object of the class."""
    if issubclass(cls, (_PATH, enum.Enum)):
        return True
    reader = scalars.reader_for(cls)
    return reader is not None and reader.from_code


def _hint(cls: type) -> str:
    reader = scalars.reader_for(cls)
    return reader.hint if reader is not None and not reader.from_code else ""


def _is_structure(annotation: Any) -> bool:
    cls: Any = typing.get_origin(annotation) or annotation
    return cls in _SEQUENCES or cls in _MAPPINGS or (isinstance(cls, type) and blueprint(cls) is not None)


def _is_foreign(annotation: Any) -> bool:
    """Whether only the library that validates the class knows how to read a field of it."""
    annotation = _bare(annotation)
    cls: Any = typing.get_origin(annotation) or annotation
    if cls in _UNIONS or cls is typing.Literal:
        return any(_is_foreign(member) for member in typing.get_args(annotation) if isinstance(member, type))
    if not isinstance(cls, type) or cls in _SEQUENCES or cls in _MAPPINGS or issubclass(cls, (enum.Enum, _PATH)):
        return False
    return cls is not type(None) and scalars.reader_for(cls) is None and blueprint(cls) is None
