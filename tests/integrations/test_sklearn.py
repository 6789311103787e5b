"""Estimators: only what is listed is looked up, and what isn't plain is refused with its path."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.semi_supervised import LabelPropagation, LabelSpreading
from sklearn.tree import DecisionTreeClassifier

from cupola import values
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.materializer import load_value, store_value
from cupola.errors import Damaged, MaterializerError

pytestmark = pytest.mark.feature("CORE-05")


class Own(BaseEstimator):
    def fit(self, data, target=None):
        return self


@pytest.fixture
def blobs(home: Path) -> Blobs:
    return Blobs(home)


def forged(tree: object, blobs: Blobs):
    """Return the manifest of an estimator whose bytes are this tree."""
    data = values.encode(tree)
    manifest = store_value(LinearRegression(), None, blobs, path="x")
    version = values.decode(manifest.spec)[0]
    return msgspec.structs.replace(manifest, inline=data, spec=values.encode([version, 0, len(data)]))


def test_an_estimator_of_the_users_own_is_refused_with_its_path(blobs):
    with pytest.raises(MaterializerError, match=r"fit\.model\.steps\[1\]\[1\] is a .*Own") as caught:
        store_value(make_pipeline(StandardScaler(), Own()), None, blobs, path="fit.model")
    assert "pickle" in caught.value.fix


def test_a_function_of_the_users_own_is_refused_with_its_path(blobs):
    with pytest.raises(MaterializerError, match=r"fit\.model\.func is a .*function"):
        store_value(FunctionTransformer(lambda data: data), None, blobs, path="fit.model")


@pytest.mark.parametrize(
    "tree",
    [
        ["object", "os.system", [], 0],
        ["object", "builtins.eval", [], 0],
        ["object", "sklearn.utils.Bunch", [], 0],
        ["constructed", "subprocess.Popen", ["list", ["true"]], 0],
        ["constructed", "sklearn.linear_model.LinearRegression", ["list", []], 0],
        ["function", "os.system", 0],
        ["function", "sklearn.datasets.fetch_openml", 0],
        ["type", "numpy.load", 0],
        ["ufunc", "load", 0],
        ["generator", ["dict", [["bit_generator", "__loader__"]]], 0],
        ["sparse", "load_npz", [1], [], 0],
        ["search tree", "os.system", ["list", []], 1, "euclidean", None, 0],
        ["nothing known", 0],
        ["__class__", 0],
        ["again", 5],
        ["array", b"", 0, 0],
        [],
        {"a": 1}.__class__,
    ][:-1],
)
def test_a_forged_estimator_is_refused_and_runs_nothing(blobs, tree):
    with pytest.raises(MaterializerError):
        load_value(forged(tree, blobs), blobs)


def test_a_forged_tree_cant_lead_the_compiled_code_astray(blobs):
    model = DecisionTreeClassifier(random_state=0).fit(np.arange(20.0).reshape(-1, 1), [0, 1] * 10)
    manifest = store_value(model, None, blobs, path="x")
    data = bytearray(manifest.inline or blobs.open(manifest.files[0].blob).read_bytes())
    nodes = model.tree_.__getstate__()["nodes"]
    place = bytes(data).index(nodes.tobytes()[:16])
    data[place : place + 8] = (10**9).to_bytes(8, "little")
    with pytest.raises(Damaged, match="lead nowhere"):
        load_value(msgspec.structs.replace(manifest, inline=bytes(data), files=()), blobs)


def test_an_object_that_is_there_twice_is_one_object_again(blobs):
    random = np.random.RandomState(3)
    pipeline = make_pipeline(DecisionTreeClassifier(random_state=random), DecisionTreeClassifier(random_state=random))
    loaded = load_value(store_value(pipeline, None, blobs, path="x"), blobs)
    assert loaded[0].random_state is loaded[1].random_state
    assert loaded[0].random_state.randint(1000) == np.random.RandomState(3).randint(1000)


def test_another_version_of_the_library_is_told(blobs):
    manifest = store_value(LinearRegression(), None, blobs, path="x")
    _, start, length = values.decode(manifest.spec)
    old = msgspec.structs.replace(manifest, spec=values.encode(["0.9.1", start, length]))
    with pytest.warns(UserWarning, match=r"scikit-learn 0\.9\.1"):
        load_value(old, blobs)


@pytest.mark.parametrize("kind", [LabelPropagation, LabelSpreading])
def test_label_propagation_predicts_alike_for_equal_data(blobs, kind):
    # Given the very array that it was fitted to, scikit-learn takes distances of a point to itself as exactly zero
    # (`X is Y` in `euclidean_distances`). No array that a loaded one is given is that array.
    data = np.random.default_rng(0).random((200, 3))
    target = (data[:, 0] > 0.5).astype(int)
    target[::3] = -1
    fitted = kind().fit(data, target)
    loaded = load_value(store_value(fitted, None, blobs, path="x"), blobs)
    assert np.array_equal(loaded.predict_proba(data.copy()), fitted.predict_proba(data.copy()))
    assert np.array_equal(loaded.predict(data), fitted.predict(data))
    assert np.abs(loaded.predict_proba(data) - fitted.predict_proba(data)).max() < 1e-12
