"""What held in a run, in the shape of a configuration file, and where each value was said."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from cupola import values
from cupola.entities.run import RunRecord
from cupola.snapshot import Snapshot, StepOptions


def read_configuration(record: RunRecord, snapshot: Snapshot) -> dict[str, Any]:
    """Return parameters and options as they held in a run.

    The keys are those of a configuration file (`params`, `on_error`, `tags`, `steps`), and `origins`, which says by
    dotted path where a value comes from. Options of steps that are as by default are left out.
    """
    steps = {spec.name: _said(snapshot.options[spec.options]) for spec in snapshot.steps}
    return {
        "params": {name: values.decode(data) for name, data in record.params.items()},
        "on_error": snapshot.on_error,
        "tags": list(snapshot.tags),
        "steps": {name: said for name, said in steps.items() if said},
        "origins": dict(record.origins),
    }


def _said(options: StepOptions) -> dict[str, Any]:
    default = StepOptions()
    changed = {
        name: value
        for name in StepOptions.__struct_fields__
        if (value := getattr(options, name)) != getattr(default, name)
    }
    cache = {name[6:]: changed.pop(name) for name in list(changed) if name.startswith("cache_")}
    retry = {name: changed.pop(name) for name in _RETRY if name in changed}
    plain = {name: _plain(value) for name, value in changed.items()}
    if cache:
        off = cache.get("read") is False and cache.get("write") is False
        plain["cache"] = False if off else {name: _plain(value) for name, value in cache.items()}
    if retry:
        plain["retry"] = {name: _plain(value) for name, value in retry.items()}
    return plain


_RETRY = ("attempts", "delay", "backoff", "jitter", "max_delay", "retry_on")
_ENCODED = (bytes, bytearray)


def _plain(value: Any) -> Any:
    """Return an option as people wrote it: what the snapshot holds encoded is decoded."""
    if isinstance(value, _ENCODED):
        return msgspec.msgpack.decode(value)
    return list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value
