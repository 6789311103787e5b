"""Estimators of scikit-learn: a tree of their attributes, with the arrays beside it, read back without running code.

Only classes and functions of a fixed list are looked up, and objects are made without their constructors. The layout is
all arrays, each at a multiple of 64 bytes, then the encoded tree; the description tells where the tree begins.
"""

from __future__ import annotations

import functools
import warnings
from importlib import import_module
from typing import Any, cast

import numpy as np
import sklearn

from cupola import values
from cupola.artifacts.port import Piece, PieceForm, Sink, name_of_type
from cupola.entities.artifact import Manifest
from cupola.errors import Damaged, MaterializerError
from cupola.integrations.numpy import array_from, array_spec, canonical_parts, check_array
from cupola.integrations.sklearn_names import CLASSES, CONSTRUCTED, FUNCTIONS, METRICS, TREES

_ALIGN = 64
_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes, slice, range})
_TREE = "sklearn.tree._tree.Tree"
_BIT_GENERATORS = frozenset({"MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"})
_SPARSE = frozenset(
    {"csr_matrix", "csc_matrix", "coo_matrix", "bsr_matrix", "csr_array", "csc_array", "coo_array", "bsr_array"}
)
_HINT = (
    "only estimators of scikit-learn itself, with plain values and arrays in them, are kept; "
    'say `Annotated[T, ArtifactConfig(materializer="pickle")]` for others, which only readers that allow pickle can '
    "load, or write a `cupola.extend.Materializer`"
)


class EstimatorForm(PieceForm):
    """Estimators, fitted or not, alone or in pipelines and searches."""

    id = "sklearn"

    def write(self, value: Any, sink: Sink, path: str) -> bytes:
        taker = _Taker(sink)
        tree = values.encode(taker.take(value, path), path=path)
        sink.write(tree)
        return values.encode([sklearn.__version__, taker.position, len(tree)])

    def read(self, piece: Piece, spec: bytes, as_type: Any) -> Any:
        described: Any = values.decode(spec)
        version, start, length = described
        _warn_of_version(version)
        buffer = memoryview(piece.map())
        tree = values.decode(bytes(buffer[start : start + length]))
        try:
            return _Maker(buffer).make(tree)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise Damaged(f"a stored estimator can't be made again: {error}") from error

    def metadata(self, value: Any, manifest: Manifest) -> dict[str, Any]:
        facts: dict[str, Any] = {"class": name_of_type(value), "size_bytes": manifest.size_bytes}
        if hasattr(value, "get_params"):
            given = value.get_params(deep=False)
            facts["parameters"] = {name: item for name, item in given.items() if type(item) in _SCALARS}
        if isinstance(getattr(value, "n_features_in_", None), int):
            facts["features"] = value.n_features_in_
        return facts

    def show(self, piece: Piece, manifest: Manifest) -> str:
        return repr(self.read(piece, manifest.spec, None))


def _warn_of_version(version: str) -> None:
    if version.split(".")[:2] != sklearn.__version__.split(".")[:2]:
        warnings.warn(
            f"an estimator that scikit-learn {version} made is loaded with {sklearn.__version__}; "
            "it may predict something else: fit it again, or install the version that made it",
            stacklevel=2,
        )


def _refused(path: str, value: object) -> MaterializerError:
    return MaterializerError(f"{path} is a {name_of_type(value)}, which can't be kept in an estimator", fix=_HINT)


class _Taker:
    """Takes an estimator apart into plain values; arrays go to the sink as they are met."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.position = 0
        # What was met more than once is one object again when loaded. Keeps the objects, so that ids stay their own.
        self._met: dict[int, tuple[int, Any]] = {}

    def take(self, value: Any, path: str) -> Any:
        kind = cast("type[object]", type(value))
        if kind in _SCALARS or isinstance(value, np.generic):
            return cast(Any, value)
        if kind is list or kind is tuple:
            return [kind.__name__, [self.take(item, f"{path}[{place}]") for place, item in enumerate(value)]]
        if kind is dict or (kind.__module__, kind.__name__) == ("sklearn.utils._bunch", "Bunch"):
            return [kind.__name__, self._items(value, path)]
        if kind is set:
            return ["set", sorted((self.take(item, path) for item in value), key=values.encode)]
        known = self._met.get(id(value))
        if known is not None:
            return ["again", known[0]]
        # Numbered before its parts are, as they are when it is made again.
        number = len(self._met)
        self._met[id(value)] = (number, value)
        return [*self._object(value, path), number]

    def _items(self, items: dict[Any, Any], path: str) -> list[Any]:
        return [[self.take(key, path), self.take(item, f"{path}[{key!r}]")] for key, item in items.items()]

    def _object(self, value: Any, path: str) -> list[Any]:
        if isinstance(value, np.ndarray):
            return self._array(value, path)
        if isinstance(value, type):
            return self._type(value, path)
        if isinstance(value, np.dtype):
            return ["dtype", value.str]
        if isinstance(value, np.random.RandomState | np.random.Generator):
            return self._random(value, path)
        if isinstance(value, np.ufunc):
            return ["ufunc", value.__name__] if getattr(np, value.__name__, None) is value else _raise(path, value)
        if type(value).__module__.startswith("scipy.sparse"):
            return self._sparse(value, path)
        return self._known_object(value, path)

    def _array(self, array: Any, path: str) -> list[Any]:
        if type(array) is np.ma.MaskedArray:
            parts = (array.data, np.ma.getmaskarray(array), array.fill_value)
            return ["masked", [self.take(part, path) for part in parts]]
        if array.dtype.hasobject and type(array) is np.ndarray and array.dtype == object:
            items = [self.take(item, f"{path}[{place}]") for place, item in enumerate(array.ravel().tolist())]
            return ["objects", list(array.shape), items]
        check_array(array, path)
        self._write(b"\0" * (-self.position % _ALIGN))
        start = self.position
        for part in canonical_parts(array):
            self._write(part)
        return ["array", array_spec(array), start]

    def _write(self, data: Any) -> None:
        self._sink.write(data)
        self.position += len(data)

    def _type(self, value: Any, path: str) -> list[Any]:
        if value in (int, float, bool, str, object):
            return ["type", value.__name__]
        if issubclass(value, np.generic) and getattr(np, value.__name__, None) is value:
            return ["type", f"numpy.{value.__name__}"]
        raise _refused(path, cast(object, value))

    def _random(self, value: Any, path: str) -> list[Any]:
        legacy = isinstance(value, np.random.RandomState)
        state: Any = value.get_state(legacy=False) if legacy else value.bit_generator.state
        if state["bit_generator"] not in _BIT_GENERATORS:
            raise _refused(path, value)
        return ["random state" if legacy else "generator", self.take(state, path)]

    def _sparse(self, value: Any, path: str) -> list[Any]:
        name = type(value).__name__
        if name not in _SPARSE:
            raise _refused(path, value)
        fields = ("data", "row", "col") if value.format == "coo" else ("data", "indices", "indptr")
        parts = [self.take(getattr(value, field), f"{path}.{field}") for field in fields]
        return ["sparse", name, list(value.shape), parts]

    def _known_object(self, value: Any, path: str) -> list[Any]:
        kind = cast("type[object]", type(value))
        full = f"{kind.__module__}.{kind.__qualname__}"
        if full == _TREE:
            _, arguments, state = value.__reduce__()
            return ["tree", self.take(list(arguments), path), self._items(state, path)]
        if full in CONSTRUCTED:
            arguments = value.__reduce__()[1]
            return ["constructed", full, self.take(list(arguments), path)]
        if kind is functools.partial:
            name = _name_of(value.func, FUNCTIONS, path)
            return ["partial", name, self.take(list(value.args), path), self._items(value.keywords, path)]
        if callable(value) and hasattr(value, "__code__"):
            return ["function", _name_of(value, FUNCTIONS, path)]
        name = _name_of(kind, CLASSES | TREES, path, value)
        if name in TREES:
            return self._search_tree(value, name, path)
        state = [[key, self.take(item, f"{path}.{key}")] for key, item in _state_of(value).items()]
        return ["object", name, state]

    def _search_tree(self, value: Any, name: str, path: str) -> list[Any]:
        state = value.__getstate__()
        metric = next(item for item in state if type(item).__module__.endswith("_dist_metrics"))
        if type(metric).__name__ not in METRICS:
            raise _refused(f"{path}, its metric,", metric)
        called = METRICS[type(metric).__name__]
        power = metric.__getstate__()[0] if called == "minkowski" else None
        return ["search tree", name, self.take(np.asarray(state[0]), path), int(state[4]), called, power]


def _raise(path: str, value: object) -> list[Any]:
    raise _refused(path, value)


def _state_of(value: Any) -> dict[str, Any]:
    # Not `__getstate__`, which adds the version of the library and leaves out what some classes can compute again.
    state: dict[str, Any] = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(value, name) and name not in ("__dict__", "__weakref__"):
                state[name] = getattr(value, name)
    return state


def _name_of(found: Any, names: frozenset[str], path: str, value: object = None) -> str:
    """Return the listed name under which a class or function is found."""
    parts = found.__module__.split(".")
    for count in range(len(parts), 1, -1):
        name = ".".join((*parts[:count], found.__qualname__))
        if name in names and _look_up(name) is found:
            return name
    raise _refused(path, found if value is None else value)


def _look_up(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise MaterializerError(
            f"this version of scikit-learn, {sklearn.__version__}, has no {name}",
            fix="install the version that made the estimator",
        ) from error


class _Maker:
    """Makes an estimator from what `_Taker` wrote. Looks up only what is listed, whatever the bytes say."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._made: dict[int, Any] = {}

    def make(self, tree: Any) -> Any:
        if type(tree) is not list:
            return tree
        made = getattr(self, _MAKERS[tree[0]])(*tree[1:])
        if tree[0] not in _UNNUMBERED:
            self._made[tree[-1]] = made
        return made

    def _list(self, items: list[Any]) -> list[Any]:
        return [self.make(item) for item in items]

    def _tuple(self, items: list[Any]) -> tuple[Any, ...]:
        return tuple(self.make(item) for item in items)

    def _set(self, items: list[Any]) -> set[Any]:
        return {self.make(item) for item in items}

    def _dict(self, items: list[Any]) -> dict[Any, Any]:
        return {self.make(key): self.make(item) for key, item in items}

    def _bunch(self, items: list[Any]) -> Any:
        return _look_up("sklearn.utils.Bunch")(**self._dict(items))

    def _again(self, number: int) -> Any:
        return self._made[number]

    def _array(self, spec: bytes, start: int, number: int) -> Any:
        return array_from(self._buffer[start:], spec)

    def _objects(self, shape: list[int], items: list[Any], number: int) -> Any:
        array = np.empty(len(items), object)
        for place, item in enumerate(items):
            array[place] = self.make(item)
        return array.reshape(shape)

    def _masked(self, parts: list[Any], number: int) -> Any:
        data, mask, fill = map(self.make, parts)
        return np.ma.MaskedArray(data, mask=mask, fill_value=fill)

    def _dtype(self, text: str, number: int) -> Any:
        return np.dtype(text)

    def _type(self, name: str, number: int) -> Any:
        plain = {"int": int, "float": float, "bool": bool, "str": str, "object": object}
        if name in plain:
            return plain[name]
        found: Any = getattr(np, name.removeprefix("numpy."))
        if not (isinstance(found, type) and issubclass(found, np.generic)):
            raise ValueError(f"{name} is no type of numbers")
        return cast(Any, found)

    def _ufunc(self, name: str, number: int) -> Any:
        found = getattr(np, name)
        if not isinstance(found, np.ufunc):
            raise TypeError(f"numpy.{name} is no elementwise function")
        return found

    def _random_state(self, tree: Any, number: int) -> Any:
        state = self.make(tree)
        random = np.random.RandomState(_bit_generator(state["bit_generator"]))
        random.set_state(state)
        return random

    def _generator(self, tree: Any, number: int) -> Any:
        state = self.make(tree)
        bits = _bit_generator(state["bit_generator"])
        bits.state = state
        return np.random.Generator(bits)

    def _sparse(self, name: str, shape: list[int], parts: list[Any], number: int) -> Any:
        from scipy import sparse

        if name not in _SPARSE:
            raise ValueError(f"{name} is no sparse matrix")
        first, second, third = map(self.make, parts)
        content = (first, (second, third)) if name.startswith("coo") else (first, second, third)
        made: Any = getattr(sparse, name)(content, shape=tuple(shape))
        made.check_format() if hasattr(made, "check_format") else None
        return made

    def _tree(self, arguments: Any, items: list[Any], number: int) -> Any:
        state = self._dict(items)
        _check_children(state["nodes"], ("left_child", "right_child"))
        made = _look_up(_TREE)(*self.make(arguments))
        made.__setstate__(state)
        return made

    def _constructed(self, name: str, arguments: Any, number: int) -> Any:
        if name not in CONSTRUCTED:
            raise _unlisted(name)
        return _look_up(name)(*self.make(arguments))

    def _function(self, name: str, number: int) -> Any:
        if name not in FUNCTIONS:
            raise _unlisted(name)
        return _look_up(name)

    def _partial(self, name: str, arguments: Any, keywords: list[Any], number: int) -> Any:
        return functools.partial(self._function(name, number), *self.make(arguments), **self._dict(keywords))

    def _search_tree(self, name: str, points: Any, leaf: int, metric: str, power: float | None, number: int) -> Any:
        if name not in TREES or metric not in METRICS.values():
            raise _unlisted(name)
        more: dict[str, Any] = {} if power is None else {"p": power}
        return _look_up(name)(self.make(points), leaf_size=leaf, metric=metric, **more)

    def _object(self, name: str, items: list[Any], number: int) -> Any:
        if name not in CLASSES:
            raise _unlisted(name)
        kind = _look_up(name)
        made = object.__new__(kind)
        self._made[number] = made
        state = self._dict(items)
        if name.endswith(".TreePredictor"):
            _check_children(state["nodes"], ("left", "right"))
        for attribute, item in state.items():
            object.__setattr__(made, attribute, item)
        return made


_UNNUMBERED = frozenset({"list", "tuple", "set", "dict", "Bunch", "again"})
_MAKERS = {
    **{name: "_" + name.lower() for name in _UNNUMBERED},
    **{
        name: "_" + name.replace(" ", "_")
        for name in ("array", "objects", "masked", "dtype", "type", "ufunc", "random state", "generator", "sparse",
                     "tree", "constructed", "function", "partial", "search tree", "object")
    },
}  # fmt: skip


def _unlisted(name: str) -> Damaged:
    return Damaged(
        f"a stored estimator names {name!r}, which isn't among the things that loading may use",
        fix="it wasn't written by this version of Cupola: upgrade, or find out who changed the store",
    )


def _bit_generator(name: str) -> Any:
    if name not in _BIT_GENERATORS:
        raise _unlisted(name)
    return getattr(np.random, name)()


def _check_children(nodes: Any, fields: tuple[str, str]) -> None:
    # The compiled code that walks a tree doesn't check where it goes.
    for field in fields:
        if len(nodes) and int(nodes[field].astype(np.int64).max()) >= len(nodes):
            raise Damaged("a stored decision tree has branches that lead nowhere")


ESTIMATOR = EstimatorForm()
