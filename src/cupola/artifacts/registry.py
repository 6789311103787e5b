"""Which materializer takes a value: what the project registered, then the built-in table, then installed packages."""

from __future__ import annotations

from typing import Any

from cupola import artifacts, plugins
from cupola.artifacts.port import Materializer, StorageForm, public_name
from cupola.errors import CupolaError, MaterializerError

_by_id: dict[str, StorageForm] = {}
_by_type: dict[type, StorageForm] = {}
_answers: dict[type, StorageForm | None] = {}


def register_materializer(materializer: Materializer[Any] | type[Materializer[Any]]) -> None:
    """Make a materializer known in this process; the last one registered for a type is used.

    Raises:
        MaterializerError: It has no id or no types, or its id belongs to another one.
    """
    known = materializer() if isinstance(materializer, type) else materializer
    where = public_name(type(known))
    identifier, types = getattr(known, "id", ""), getattr(known, "types", ())
    if not isinstance(identifier, str) or not identifier or not types:
        raise MaterializerError(f"materializer {where} has no id or no types", where=where, fix="give it both")
    taken = _by_id.get(identifier)
    same = isinstance(taken, artifacts.folder_form.FolderForm) and public_name(type(taken.materializer)) == where
    if identifier in plugins.MATERIALIZERS or (taken and not same):
        raise MaterializerError(
            f"the materializer id {identifier!r} is already taken", where=where, fix="choose another `id`"
        )
    form = artifacts.folder_form.FolderForm(known)
    _by_id[identifier] = form
    _by_type.update(dict.fromkeys(types, form))
    _answers.clear()


def form_by_id(identifier: str) -> StorageForm:
    """Return the materializer of an id.

    Raises:
        MaterializerError: No materializer with this id is registered or installed.
    """
    if identifier in _by_id:
        return _by_id[identifier]
    target = plugins.MATERIALIZERS.get(identifier)
    if target is not None:
        form = _by_id[identifier] = plugins.load_target(target)
        return form
    installed = plugins.installed_targets(plugins.MATERIALIZER_GROUP)
    if identifier in installed:
        return _load_installed(identifier, installed[identifier])
    raise MaterializerError(
        f"no materializer is called {identifier!r}",
        fix="install the package that provides it, or import the module that registers it with "
        f"`cupola.extend.register_materializer`; built in are {', '.join(plugins.MATERIALIZERS)}",
    )


def form_for(kind: type) -> StorageForm | None:
    """Return the materializer for values of a class that was registered or belongs to a known library, else None."""
    if kind not in _answers:
        _answers[kind] = _search(kind)
    return _answers[kind]


def installed_form_for(kind: type) -> StorageForm | None:
    """Return the materializer that an installed package offers for a class, else None; looks at all of them."""
    for identifier, target in plugins.installed_targets(plugins.MATERIALIZER_GROUP).items():
        if identifier not in _by_id:
            try:
                _load_installed(identifier, target)
            except CupolaError:
                # A broken package must not stop values that others can store; asked for by id, it says what is wrong.
                continue
    return form_for(kind)


def _load_installed(identifier: str, target: str) -> StorageForm:
    register_materializer(plugins.load_target(target))
    if identifier not in _by_id:
        raise MaterializerError(
            f"the installed materializer {identifier!r} calls itself by another id",
            where=target,
            fix="its entry point must have the name that its `id` says",
        )
    return _by_id[identifier]


def _search(kind: type) -> StorageForm | None:
    for ancestor in kind.__mro__:
        if ancestor in _by_type:
            return _by_type[ancestor]
    names = [public_name(ancestor) for ancestor in kind.__mro__]
    by_class = [plugins.MATERIALIZERS_BY_CLASS[name] for name in names if name in plugins.MATERIALIZERS_BY_CLASS]
    libraries = [ancestor.__module__.partition(".")[0] for ancestor in kind.__mro__]
    by_library = [
        plugins.MATERIALIZERS_BY_LIBRARY[name] for name in libraries if name in plugins.MATERIALIZERS_BY_LIBRARY
    ]
    return next((form_by_id(identifier) for identifier in (*by_class, *by_library)), None)
