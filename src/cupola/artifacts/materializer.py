"""Values to manifests and back: the four things that workers and readers do with stored values.

Plain values, nearly all there are, take a short way to their materializer; all others go by the registry.
"""

from __future__ import annotations

from typing import Annotated, Any, cast, get_args, get_origin

from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializers.plain import VALUE
from cupola.artifacts.port import StorageForm, check_format, describe
from cupola.artifacts.registry import form_by_id, form_for
from cupola.entities.artifact import Manifest
from cupola.entities.options import ArtifactConfig
from cupola.errors import ConfigError, MaterializerError

_PLAIN = frozenset({type(None), bool, int, float, complex, str, list, dict, tuple, set, frozenset})
_SCALARS = frozenset({bool, int, float, complex, str})
PICKLE = "pickle"
_WAYS_OUT = (
    "return plain values, data classes, arrays, tables or a `File` that hold the same; or write a "
    '`cupola.extend.Materializer` for its type; or say `Annotated[T, ArtifactConfig(materializer="pickle")]`, which '
    "only readers that allow pickle can load"
)


def store_value(value: Any, annotation: Any, blobs: Blobs, *, materializer: str = "", path: str) -> Manifest:
    """Store a value and return its manifest.

    Args:
        value: What to store.
        annotation: What the step says it returns; decides whether a numpy scalar stays one. None or Any: as it is.
        blobs: Where bytes go that are too many for the record.
        materializer: Id of the materializer that the user chose, else empty.
        path: Where the value comes from, for errors, such as `train.model`.

    Raises:
        MaterializerError: The value can't be kept exactly; the message names the part and the ways out.
        Unreachable: The store can't be written.
    """
    if materializer:
        form = form_by_id(materializer)
    elif type(value) in _PLAIN:
        form = VALUE
    else:
        if _is_numpy_scalar(value) and _wants_plain(value, annotation):
            value = value.item()
        # Of a class that no library of the table defines: a data class of the user's, or one of an installed package.
        form = form_for(cast("type[object]", type(value))) or VALUE
    return _store_in(form, value, blobs, path)


def load_value(manifest: Manifest, blobs: Blobs, as_type: Any = None, *, allow_pickle: bool = False) -> Any:
    """Return a stored value as an object of its own. Arrays and tables are mapped: read when used.

    Args:
        manifest: How the value is stored.
        blobs: Where its bytes are.
        as_type: What the reader's annotation asks for; None takes what is there.
        allow_pickle: Whether the reader accepts that unpickling may run any code. An annotation
            `Annotated[T, ArtifactConfig(materializer="pickle")]` says so as well.

    Raises:
        MaterializerError: No materializer has the manifest's id, its format is newer, or it is a pickle.
        Damaged: Stored bytes are missing or not what they were.
    """
    as_type, says_pickle = _split_annotation(as_type)
    if manifest.materializer == PICKLE and not (allow_pickle or says_pickle):
        raise MaterializerError(
            f"this {manifest.type} is stored as a pickle, and loading a pickle may run any code",
            fix="if you trust who made it: `.load(allow_pickle=True)`, or, for a step's input, annotate it as "
            '`Annotated[T, ArtifactConfig(materializer="pickle")]`',
        )
    form = form_by_id(manifest.materializer)
    check_format(manifest, form.format)
    return form.load(manifest, blobs, as_type)


def allows_pickle(annotation: Any) -> bool:
    """Tell whether a reader's annotation accepts that loading may run any code."""
    return _split_annotation(annotation)[1]


def value_metadata(value: Any, manifest: Manifest) -> dict[str, Any]:
    """Return facts about a value for people, such as rows, columns and shape; plain values have none."""
    return form_by_id(manifest.materializer).metadata(value, manifest)


def preview_value(manifest: Manifest, blobs: Blobs) -> str:
    """Return a short text for people from what is stored; it is not escaped for HTML.

    Runs none of the user's code. Where the library of a type isn't installed, says what the value is.

    Raises:
        Damaged: Stored bytes are missing or not what they were.
    """
    try:
        form = form_by_id(manifest.materializer)
    except (MaterializerError, ConfigError):
        return describe(manifest)
    return form.preview(manifest, blobs)


def _store_in(form: StorageForm, value: Any, blobs: Blobs, path: str) -> Manifest:
    try:
        return form.store(value, blobs, path)
    except MaterializerError as error:
        raise _refusal(error) from error.__cause__


def _refusal(error: MaterializerError) -> MaterializerError:
    return error if error.fix else MaterializerError(error.what, where=error.where, fix=_WAYS_OUT)


def _is_numpy_scalar(value: Any) -> bool:
    return type(value).__module__ == "numpy" and hasattr(value, "item") and not hasattr(value, "__array_finalize__")


def _wants_plain(value: Any, annotation: Any) -> bool:
    """Tell whether a numpy scalar stands for a plain value: one was declared, as `float` or `int | None`."""
    annotation, _ = _split_annotation(annotation)
    declared = get_args(annotation) or (annotation,)
    return type(value) not in declared and type(value.item()) in _SCALARS.intersection(declared)


def _split_annotation(annotation: Any) -> tuple[Any, bool]:
    """Return an annotation without `Annotated`, and whether it allows pickle."""
    # `get_origin` asks six times what an annotation is; only those with `Annotated` have the attribute.
    if annotation is None or isinstance(annotation, type) or not hasattr(annotation, "__metadata__"):
        return annotation, False
    if get_origin(annotation) is not Annotated:
        return annotation, False
    inner, *notes = get_args(annotation)
    return inner, any(isinstance(note, ArtifactConfig) and note.materializer == PICKLE for note in notes)
