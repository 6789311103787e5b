"""What may be added from outside, found by name: a built-in table first, entry points of installed packages second.

A target is text, `module:attribute`, and is imported when it is first used. Installed packages are only looked at when
the table doesn't know a name, since reading their metadata costs more than running a small pipeline.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from cupola.errors import ConfigError

MATERIALIZERS = {
    "value": "cupola.artifacts.materializers.plain:VALUE",
    "bytes": "cupola.artifacts.materializers.plain:BYTES",
    "pickle": "cupola.artifacts.materializers.plain:PICKLE",
    "container": "cupola.artifacts.materializers.containers:CONTAINER",
    "file": "cupola.artifacts.materializers.files:FILE",
    "folder": "cupola.artifacts.materializers.files:FOLDER",
    "numpy": "cupola.integrations.numpy:ARRAY",
    "pandas": "cupola.integrations.pandas:PANDAS",
    "arrow": "cupola.integrations.arrow:ARROW",
    "sklearn": "cupola.integrations.sklearn:ESTIMATOR",
}
"""The built-in materializers by id."""

MATERIALIZERS_BY_LIBRARY = {
    "numpy": "numpy",
    "pandas": "pandas",
    "pyarrow": "arrow",
    "sklearn": "sklearn",
}
"""The id of the materializer for types that a library defines, by the library's top-level module."""

MATERIALIZERS_BY_CLASS = {
    "bytes": "bytes",
    "bytearray": "bytes",
    "cupola.files.File": "file",
    "cupola.files.Folder": "folder",
    # Numbers of numpy are plain values; only its arrays are not.
    "numpy.generic": "value",
    # So are the scalars of pandas, here by the bases that they have in all its versions.
    "pandas.tslibs.timestamps._Timestamp": "value",
    "pandas.tslibs.timedeltas._Timedelta": "value",
    "pandas.tslibs.nattype._NaT": "value",
    "pandas.tslibs.period._Period": "value",
    "pandas.missing.C_NAType": "value",
    "pandas.interval.IntervalMixin": "value",
}
"""The id of the materializer for single classes, which goes before the library's."""

MATERIALIZER_GROUP = "cupola.materializers"
"""Entry points of this group name a materializer class or instance; their name is its id."""

_found: dict[str, tuple[object, dict[str, str]]] = {}
_loaded: dict[str, Any] = {}


def load_target(target: str) -> Any:
    """Return what `module:attribute` names, importing the module when it is first asked for.

    Raises:
        ConfigError: The module or the attribute can't be found.
    """
    if target in _loaded:
        return _loaded[target]
    from importlib import import_module

    module_name, _, attribute = target.partition(":")
    try:
        found = getattr(import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"{target!r} can't be loaded: {error}",
            fix=f"install or repair the package that provides {module_name.partition('.')[0]!r}",
        ) from error
    _loaded[target] = found
    return found


def installed_targets(group: str) -> Mapping[str, str]:
    """Return the targets that installed packages offer in a group of entry points, by name.

    The answer is kept until a folder of `sys.path` changes.
    """
    state = tuple((entry, _changed_at(entry)) for entry in sys.path)
    known = _found.get(group)
    if known is None or known[0] != state:
        from importlib.metadata import entry_points

        known = _found[group] = (state, {entry.name: entry.value for entry in entry_points(group=group)})
    return known[1]


def _changed_at(folder: str) -> int:
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return 0
