"""What a step needs of the machine that runs it: as users write it, and as amounts that can be counted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn, cast

import msgspec

from cupola.errors import ConfigError

_UNITS = {
    "": 1,
    "b": 1,
    **{unit: 1000**power for power, letter in enumerate("kmgtp", 1) for unit in (letter, f"{letter}b")},
    **{unit: 1024**power for power, letter in enumerate("kmgtp", 1) for unit in (f"{letter}i", f"{letter}ib")},
}
_LEAST_BYTES = 1024**2
"""Less is no memory for a step; whoever says less means another unit."""


class Amounts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a step needs, as numbers.

    Attributes:
        cpu: Number of processors, also a part of one; 0 when not said.
        memory: Bytes; 0 when not said.
        gpu: Number of graphics processors; None when not said.
        gpu_type: Part of the model's name; empty when not said.
        slots: Amounts of named slots.
    """

    cpu: float = 0.0
    memory: int = 0
    gpu: int | None = None
    gpu_type: str = ""
    slots: dict[str, float] = {}


class Resources:
    """What a step needs of the machine that runs it. Immutable.

    Args:
        cpu: Number of processors, also a part of one.
        memory: Memory, as bytes or with a unit (`"8GiB"`, `"500 MB"`).
        gpu: Number of graphics processors; the step sees only its own, with 0 none.
        gpu_type: Part of the model's name of the graphics processor, such as `"a100"`.
        **slots: Named slots of the host, such as `licence=1`; `CUPOLA_SLOTS="licence=2"` says how many there are.

    Raises:
        ConfigError: An amount makes no sense.

    Example:
        >>> Resources(cpu=2, memory="8GiB", licence=1)
        Resources(cpu=2, memory='8GiB', licence=1)
    """

    __slots__ = ("_amounts", "_said")

    def __init__(
        self,
        cpu: float | None = None,
        memory: int | str | None = None,
        gpu: int | None = None,
        gpu_type: str | None = None,
        **slots: float,
    ) -> None:
        said = {"cpu": cpu, "memory": memory, "gpu": gpu, "gpu_type": gpu_type, **slots}
        self._said: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
        if gpu is not None and (not _is_number(gpu) or gpu != int(gpu) or gpu < 0):
            _refuse("gpu", gpu, "must be a whole number: a graphics processor isn't shared between steps")
        if gpu_type is not None and not (_is_text(gpu_type) and gpu_type.strip()):
            _refuse("gpu_type", gpu_type, "must be a part of the model's name, such as 'a100'")
        # A type alone asks for one of that type.
        gpus = 1 if gpu is None and gpu_type is not None else gpu
        self._amounts = Amounts(
            cpu=_amount("cpu", cpu) if cpu is not None else 0.0,
            memory=_memory(memory) if memory is not None else 0,
            gpu=int(gpus) if gpus is not None else None,
            gpu_type=gpu_type.strip() if gpu_type is not None else "",
            slots=read_slots(slots, "Resources(…)"),
        )

    @property
    def amounts(self) -> Amounts:
        """What is needed, as numbers."""
        return self._amounts

    def __repr__(self) -> str:
        return f"Resources({', '.join(f'{name}={value!r}' for name, value in self._said.items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Resources) and other._amounts == self._amounts

    def __hash__(self) -> int:
        amounts = self._amounts
        return hash((amounts.cpu, amounts.memory, amounts.gpu, amounts.gpu_type, *amounts.slots.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return _resources, (self._said,)


def _resources(said: Mapping[str, Any]) -> Resources:
    return Resources(**said)


def read_bytes(text: str) -> int | None:
    """Return an amount of memory in bytes; None when the text is none.

    Units count by 1000 (`kB`, `MB`, `GB`, or only `G`) or, with an `i`, by 1024 (`KiB`, `MiB`, `GiB`, or only `Gi`),
    in either case of letters.

    Example:
        >>> read_bytes("8GiB"), read_bytes("1.5 GB"), read_bytes("8 apples")
        (8589934592, 1500000000, None)
    """
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = _UNITS.get(text.strip()[len(number) :].lower())
    try:
        found = float(number) * (unit or 0)
    except ValueError:
        return None
    return math.ceil(found) if 0 < found < 2**63 else None


def read_slots(said: Mapping[str, object], where: str) -> dict[str, float]:
    """Return amounts of named slots in the order of their names.

    Raises:
        ConfigError: A name or an amount makes no sense; the message names `where`.
    """
    for name, value in said.items():
        if not name.isprintable() or any(letter in " ,=" for letter in name) or not name:
            raise ConfigError(f"{name!r} is no name of a slot", where=where, fix="take a word such as licence=1")
        if not _is_number(value) or not 0 < cast("float", value) < 1e15:
            fix = "write the amount as a number, such as licence=1"
            if name == "slots" and isinstance(value, Mapping):
                fix = "name each slot by itself: Resources(licence=1)"
            raise ConfigError(f"slot {name!r} can't be {value!r}", where=where, fix=fix)
    return {name: float(cast("float", said[name])) for name in sorted(said)}


def _amount(name: str, value: float) -> float:
    if not _is_number(value) or not 0 < value < 1e15:
        _refuse(name, value, "must be a number above 0")
    return float(value)


def _memory(value: int | str) -> int:
    found = read_bytes(value) if isinstance(value, str) else value
    if found is None or not _is_number(found) or found != int(found):
        _refuse("memory", value, "is no amount of memory: write bytes, or a text such as '500MB' or '8GiB'")
    if found < _LEAST_BYTES:
        _refuse("memory", value, f"is {found} bytes: write the unit, such as '{max(found, 1)}GiB'")
    return int(found)


def _is_number(value: object) -> bool:
    """Tell what checkers take for granted and users don't keep."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _refuse(name: str, value: object, why: str) -> NoReturn:
    raise ConfigError(f"Resources({name}={value!r}) {why}")
