"""Estimators that hold more than arrays."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from cupola import pipeline, step


@step
def table(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"number": np.arange(float(rows)), "letter": pd.Categorical(["x", "y"] * (rows // 2))})


@step
def grow(frame: pd.DataFrame) -> HistGradientBoostingRegressor:
    model = HistGradientBoostingRegressor(max_iter=5, categorical_features="from_dtype", random_state=0)
    return model.fit(frame, frame["number"])


@step
def predict(model: HistGradientBoostingRegressor, frame: pd.DataFrame) -> np.ndarray:
    return model.predict(frame)


@pipeline
def boosting(rows: int = 100) -> tuple[HistGradientBoostingRegressor, np.ndarray]:
    frame = table(rows)
    model = grow(frame)
    return model, predict(model, frame)


@pytest.mark.feature("CORE-05")
def test_boosting_that_takes_categories_from_the_frame_predicts_the_same_when_loaded():
    frame = table.fn(100)
    expected = grow.fn(frame).predict(frame)
    run = boosting()
    assert np.array_equal(run.steps["predict"].output.load(), expected)
    assert np.array_equal(run.steps["grow"].output.load().predict(frame), expected)
