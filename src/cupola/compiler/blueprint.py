"""How objects of classes with fields are made of mappings: dataclass, attrs, msgspec, pydantic, NamedTuple, TypedDict.

Unlike loading a stored value, this is an ordinary construction: defaults, `__post_init__` and validators run.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

from cupola import records
from cupola.classes import field_annotations


class Blueprint(msgspec.Struct, frozen=True):
    """What is needed to make an object of a class from its fields.

    Attributes:
        cls: The class that objects are of.
        name: What people call it.
        fields: Annotation of each field that can be given, by its name in the constructor.
        names: What people may call a field, and its name in the constructor.
        required: Names of the fields without a default.
        make: Returns the object for fields by name.
        take: Returns the fields by name of an object.
        positional: Whether a list stands for the fields in order.
        validates: Whether the class converts what it is given itself.
    """

    cls: type
    name: str
    fields: Mapping[str, Any]
    names: Mapping[str, str]
    required: tuple[str, ...]
    make: Callable[[dict[str, Any]], Any]
    take: Callable[[Any], dict[str, Any]]
    positional: bool = False
    validates: bool = False


def blueprint(cls: type) -> Blueprint | None:
    """Return how a class is made from fields, or None when it isn't one of them."""
    if typing.is_typeddict(cls):
        return _typed_dict(cls)
    match records.kind_of(cls):
        case "dataclass":
            return _dataclass(cls)
        case "attrs":
            return _attrs(cls)
        case "msgspec":
            return _msgspec(cls)
        case "pydantic":
            return _pydantic(cls)
        case "namedtuple":
            return _namedtuple(cls)
        case _:
            return None


def refusal(error: Exception) -> str:
    """Return what a constructor says in one line; pydantic's own text has one for each field and more."""
    if type(error).__name__ == "ValidationError" and hasattr(error, "errors"):
        found = cast("list[dict[str, Any]]", cast(Any, error).errors())
        return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in found[:3])
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _plan(cls: Any, attributes: dict[str, str], required: list[str], **more: Any) -> Blueprint:
    """Make a blueprint from the attribute of each name in the constructor."""
    types = field_annotations(cls)
    return Blueprint(
        cls=cls,
        name=cls.__qualname__,
        fields={name: types.get(attribute, Any) for name, attribute in attributes.items()},
        names={**{attribute: name for name, attribute in attributes.items()}, **{name: name for name in attributes}},
        required=tuple(required),
        make=lambda fields: cls(**fields),
        take=lambda value: {
            name: getattr(value, attribute) for name, attribute in attributes.items() if hasattr(value, attribute)
        },
        **more,
    )


def _dataclass(cls: Any) -> Blueprint:
    import dataclasses  # already loaded by whoever defined the class

    fields = [field for field in dataclasses.fields(cls) if field.init]
    missing = dataclasses.MISSING
    required = [field.name for field in fields if field.default is missing and field.default_factory is missing]
    return _plan(cls, {field.name: field.name for field in fields}, required)


def _attrs(cls: Any) -> Blueprint:
    fields = [attribute for attribute in cls.__attrs_attrs__ if attribute.init]
    names = {getattr(field, "alias", None) or field.name.lstrip("_"): field.name for field in fields}
    required = [name for name, field in zip(names, fields, strict=True) if type(field.default).__name__ == "_Nothing"]
    return _plan(cls, names, required)


def _msgspec(cls: Any) -> Blueprint:
    fields = msgspec.structs.fields(cls)
    return _plan(cls, {field.name: field.name for field in fields}, [field.name for field in fields if field.required])


def _namedtuple(cls: Any) -> Blueprint:
    names = {name: name for name in cls._fields}
    return _plan(cls, names, [name for name in names if name not in cls._field_defaults], positional=True)


def _pydantic(cls: Any) -> Blueprint:
    fields = records.model_fields(cls)
    aliases = {
        name: field.validation_alias if isinstance(field.validation_alias, str) else field.alias
        for name, field in fields.items()
    }
    names = {**{name: name for name in fields}, **{alias: name for name, alias in aliases.items() if alias}}

    def make(given: dict[str, Any]) -> Any:
        return cls.model_validate({aliases.get(name) or name: value for name, value in given.items()})

    def take(value: Any) -> dict[str, Any]:
        return {name: getattr(value, name) for name in value.model_fields_set if name in fields}

    return Blueprint(
        cls=cls,
        name=cls.__qualname__,
        fields={name: field.annotation for name, field in fields.items()},
        names=names,
        required=tuple(name for name, field in fields.items() if field.is_required()),
        make=make,
        take=take,
        validates=True,
    )


def _typed_dict(cls: Any) -> Blueprint:
    types = typing.get_type_hints(cls, include_extras=True)
    # The class itself doesn't see `Required` in annotations that are texts.
    required = [
        name
        for name, annotation in types.items()
        if typing.get_origin(annotation) is typing.Required
        or (name in cls.__required_keys__ and typing.get_origin(annotation) is not typing.NotRequired)
    ]
    return Blueprint(
        cls=dict,
        name=cls.__qualname__,
        fields=types,
        names={name: name for name in types},
        required=tuple(required),
        make=dict,
        take=dict,
    )
