"""From a stored class name and fields to an object: which class a reader means, and how it is built.

A class is never imported: it is one that the reader's annotation names, or a data class that the process has already
imported under the recorded name. It is built without running its code (no `__init__`, `__post_init__`, validators).
"""

from __future__ import annotations

import enum
import functools
import sys
import typing
from types import MemberDescriptorType, ModuleType, SimpleNamespace
from typing import Any, cast

import msgspec

from cupola.errors import MaterializerError
from cupola.records import PROGRAM, Unstorable, class_name, field_names, kind_of, model_fields


def find_class(name: str, annotation: object) -> type | None:
    """Return the class that a stored name means to this reader, or None.

    Args:
        name: `module:qualname` as it was recorded.
        annotation: What the reader says it expects.
    """
    for cls in named_in(annotation):
        if _is_called(cls, name):
            return cls
    return _imported(name) or _subclass(name, annotation)


def _is_called(cls: type, name: str) -> bool:
    if cls.__qualname__ != name.partition(":")[2]:
        return False
    try:
        return class_name(cls) == name
    except Unstorable:
        return False


def _imported(name: str) -> type | None:
    module_name, _, qualname = name.partition(":")
    candidates: list[object] = [sys.modules.get(module_name)]
    if _walk(candidates[0], qualname) is None:
        # Recorded under its name below the source root, imported under another; only modules that have it are asked.
        first = qualname.partition(".")[0].partition("[")[0]
        tail = module_name.rpartition(".")[2]
        candidates = [
            module
            for alias, module in cast("list[tuple[str, object]]", list(sys.modules.items()))
            if isinstance(module, ModuleType)
            and first in module.__dict__
            and (alias in PROGRAM or alias.rpartition(".")[2] == tail)
        ]
    for module in candidates:
        found = _walk(module, qualname)
        if found is not None and kind_of(found) and _is_called(found, name):
            return found
        made = _parametrized(found, module, name)
        if made is not None:
            return made
    return None


def _parametrized(found: type | None, module: object, name: str) -> type | None:
    """Find `Model[int]` of pydantic, a class that no module holds, among those that this process made of `Model`."""
    plain, bracket, _ = name.partition(":")[2].partition("[")
    generic = _walk(module, plain) if bracket and found is None else None
    if generic is None:
        return None
    return next((cls for cls in type.__subclasses__(generic) if kind_of(cls) and _is_called(cls, name)), None)


def _walk(module: object, qualname: str) -> type | None:
    """Follow a qualified name through dictionaries, so that no `__getattr__` or descriptor runs."""
    found: Any = module
    for part in qualname.split("."):
        if not isinstance(found, (ModuleType, type)):
            return None
        found = found.__dict__.get(part)
    return found if isinstance(found, type) else None


def _subclass(name: str, annotation: object) -> type | None:
    """Look among the data classes derived from those that the annotation names; they may stand inside a function."""
    waiting = [cls for cls in named_in(annotation) if kind_of(cls)]
    seen: set[type] = set()
    while waiting:
        cls = waiting.pop()
        if cls not in seen:
            seen.add(cls)
            if _is_called(cls, name):
                return cls
            waiting += type.__subclasses__(cls)
    return None


def named_in(annotation: object) -> tuple[type, ...]:
    """Return the classes that an annotation names, also inside others and in the fields of data classes."""
    if annotation is None:
        return ()
    try:
        return _named_in_hashable(annotation)
    except TypeError:  # an Annotated with unhashable metadata
        return _search(annotation)


@functools.lru_cache(maxsize=256)
def _named_in_hashable(annotation: object) -> tuple[type, ...]:
    return _search(annotation)


def _search(annotation: object) -> tuple[type, ...]:
    found: dict[type, None] = {}
    seen: set[int] = set()
    waiting: list[Any] = [annotation]
    while waiting:
        item = waiting.pop(0)
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, type) and not hasattr(item, "__origin__"):
            found[item] = None
            if kind_of(item) not in ("", "enum"):
                waiting += field_annotations(item).values()
            continue
        for name in ("__origin__", "__value__", "__supertype__", "__bound__"):
            waiting += [part] if (part := getattr(item, name, None)) is not None else []
        waiting += getattr(item, "__args__", None) or ()
        waiting += getattr(item, "__constraints__", None) or ()
    return tuple(found)


def field_annotations(cls: type) -> dict[str, Any]:
    """Return the annotations of a class's fields, resolved as far as their names can be."""
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except Exception:  # evaluating a text may raise anything; a name known to type checkers only is the usual case
        return _each_annotation(cls)


def _each_annotation(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        module = sys.modules.get(base.__module__)
        names = module.__dict__ if isinstance(module, ModuleType) else {}
        for name, annotation in _own_annotations(base).items():
            holder: Any = SimpleNamespace(__annotations__={name: annotation})
            try:
                found.update(typing.get_type_hints(holder, names, dict(vars(base)), include_extras=True))
            except Exception:  # as above; what isn't known is left out
                continue
    return found


def _own_annotations(cls: Any) -> dict[str, Any]:
    # The same as `inspect.get_annotations`, which costs 17 ms to import.
    return cls.__annotations__ if "__annotations__" in cls.__dict__ else {}


def build(cls: type, name: str, kind: str, fields: dict[str, Any], state: dict[str, Any]) -> Any:
    """Make an object of a data class from its stored fields, running none of the class's code but default factories.

    Raises:
        MaterializerError: The class has no place or no default for what is stored.
    """
    own = kind_of(cls)
    if own in ("", "enum") or kind == "enum":
        raise _changed(name, f"was stored as a {kind} and is now {'an enum' if own == 'enum' else 'no data class'}")
    known = field_names(cls)
    values = dict(fields)
    for field in known:
        if field not in values:
            values[field] = _default(cls, own, field, name)
    match own:
        case "namedtuple":
            return _build_tuple(cls, known, values, name)
        case "msgspec":
            return _build_struct(cls, known, values, name)
        case "pydantic":
            return _build_model(cls, values, state)
        case _:
            return _set_fields(object.__new__(cls), cls, values, name)


def build_enum(cls: type, name: str, member: str, value: Any) -> Any:
    """Return the member of an enum by its name, or a combination of flags by its value, without looking it up by code.

    Raises:
        MaterializerError: The class has no such member any more.
    """
    if isinstance(cls, enum.EnumMeta):
        found = cls._member_map_.get(member)
        if found is None and issubclass(cls, enum.Flag):
            found = cls._value2member_map_.get(value)
            if found is None:
                # The library's own rule, not one that the class may have put in its place.
                found = enum.Flag.__dict__["_missing_"].__func__(cls, value)
        if isinstance(found, cls):
            return found
    raise _changed(name, f"has no member {member or value!r} any more")


def _changed(name: str, how: str) -> MaterializerError:
    return MaterializerError(
        f"{name} {how}",
        where="loading a stored value",
        fix="give new fields a default, keep old ones, or load the value where its class isn't imported, as a Record",
    )


def _default(cls: Any, kind: str, field: str, name: str) -> Any:
    """Return the default of a field that wasn't there when the object was stored."""
    default, factory = _declared_default(cls, kind, field)
    if type(default).__name__ == "Factory" and kind == "attrs":
        if default.takes_self:
            raise _changed(name, f"has a new field {field!r}, whose default needs the object itself")
        factory = default.factory
    if type(factory).__name__ not in _NO_DEFAULT and factory is not None:
        return factory()
    if type(default).__name__ not in _NO_DEFAULT:
        return default
    raise _changed(name, f"has a new field {field!r} without a default, which the stored value doesn't have")


# The types that stand for "no default" in dataclasses, attrs, msgspec and pydantic, which needn't be imported here.
_NO_DEFAULT = frozenset({"_MISSING_TYPE", "_Nothing", "NoDefaultType", "PydanticUndefinedType"})


def _declared_default(cls: Any, kind: str, field: str) -> tuple[Any, Any]:
    """Return default and default factory of a field as its class declares them."""
    match kind:
        case "dataclass":
            own = cls.__dataclass_fields__[field]
            return own.default, own.default_factory
        case "attrs":
            return next(attribute.default for attribute in cls.__attrs_attrs__ if attribute.name == field), None
        case "msgspec":
            own = next(item for item in msgspec.structs.fields(cls) if item.name == field)
            return own.default, own.default_factory
        case "pydantic":
            own = model_fields(cls)[field]
            return own.default, own.default_factory
        case _:
            return cls._field_defaults.get(field, msgspec.NODEFAULT), None


def _place_for(cls: type, names: Any, name: str) -> None:
    """Refuse a stored field that an object without a `__dict__` can't hold."""
    for field in names:
        raise _changed(name, f"has no field {field!r} any more, which the stored {cls.__name__} has")


def _build_tuple(cls: Any, known: tuple[str, ...], values: dict[str, Any], name: str) -> Any:
    made: Any = cast(Any, tuple).__new__(cls, [values.pop(field) for field in known])
    if values:
        if not hasattr(made, "__dict__"):
            _place_for(cls, values, name)
        made.__dict__.update(values)
    return made


def _build_struct(cls: Any, known: tuple[str, ...], values: dict[str, Any], name: str) -> Any:
    made = _struct_maker(cls, name)(**{field: values.pop(field) for field in known})
    if type(made) is not cls:
        # Structs forbid setting attributes when frozen; the class is put back by the descriptor that all objects have.
        object.__dict__["__class__"].__set__(made, cls)
    if values:
        if not hasattr(made, "__dict__"):
            _place_for(cls, values, name)
        made.__dict__.update(values)
    return made


@functools.lru_cache(maxsize=256)
def _struct_maker(cls: Any, name: str) -> Any:
    """Return a class that makes the objects: msgspec has no raw constructor, so one without `__post_init__` does it."""
    if getattr(cls, "__post_init__", None) is None:
        return cls
    for base in cls.__mro__[:-1]:
        if "__init_subclass__" in base.__dict__ and base is not msgspec.Struct:
            raise _changed(name, "can't be built without running its __post_init__ or __init_subclass__")
    return type(cls)(cls.__name__, (cls,), {"__post_init__": _nothing, "__module__": cls.__module__})


def _nothing(_: object) -> None:
    """Stand for a method that must not run."""


def _build_model(cls: Any, values: dict[str, Any], state: dict[str, Any]) -> Any:
    made = object.__new__(cls)
    set_raw = object.__setattr__
    known = field_names(cls)
    set_raw(made, "__dict__", values)
    set_raw(made, "__pydantic_fields_set__", set(state.get("set", known)))
    if getattr(cls, "__pydantic_root_model__", False):
        return made  # it has no place for what follows
    extra = state.get("extra", {} if cls.model_config.get("extra") == "allow" else None)
    set_raw(made, "__pydantic_extra__", extra)
    private = state.get("private")
    set_raw(
        made, "__pydantic_private__", private if private is not None else ({} if cls.__private_attributes__ else None)
    )
    return made


def _set_fields(made: Any, cls: type, values: dict[str, Any], name: str) -> Any:
    namespace = getattr(made, "__dict__", None)
    for field, value in values.items():
        if isinstance(getattr(cls, field, None), MemberDescriptorType):
            object.__setattr__(made, field, value)
        elif namespace is None:
            _place_for(cls, (field,), name)
        else:
            namespace[field] = value
    if kind_of(cls) == "attrs" and _caches_hash(cls):
        object.__setattr__(made, "_attrs_cached_hash", None)
    return made


def _caches_hash(cls: Any) -> bool:
    """Whether an attrs class keeps its objects' hash in them, which holds for one process only and is never stored."""
    code = getattr(cls.__hash__, "__code__", None)
    return hasattr(cls, "_attrs_cached_hash") or (code is not None and "_attrs_cached_hash" in code.co_names)
