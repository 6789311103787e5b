"""Steps are plain functions outside of a pipeline, so they are tested as such."""

from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from steps.clock import minutes_between, minutes_since_midnight
from steps.evaluate import choose, evaluate_guess
from steps.features import build_features
from steps.measures import Scores, measure
from steps.report import write_report
from steps.split import split
from steps.validate import validate


def flights(**changes: list) -> pd.DataFrame:
    columns = {
        "time_hour": ["2013-01-01T10:00:00Z", "2013-06-01T10:00:00Z"],
        "month": [1, 6],
        "day": [1, 1],
        "hour": [23, 5],
        "minute": [30, 0],
        "sched_arr_time": [130, 700],
        "dep_delay": [10.0, -5.0],
        "arr_delay": [4.0, 0.0],
        "carrier": ["UA", "AA"],
        "origin": ["JFK", "LGA"],
        "dest": ["BOS", "MIA"],
        "distance": [200, 1000],
    }
    return pd.DataFrame({**columns, **changes})


WEATHER = pd.DataFrame(
    {
        "origin": ["JFK"],
        "time_hour": ["2013-01-01T10:00:00Z"],
        "temp": [30.0],
        "wind_speed": [5.0],
        "precip": [0.0],
        "visib": [10.0],
        "pressure": [1012.0],
    }
)


def test_times_of_day_cross_midnight():
    assert minutes_since_midnight(pd.Series([1735])).tolist() == [1055]
    assert minutes_between(pd.Series([1410]), pd.Series([90])).tolist() == [120]


def test_features_know_nothing_of_the_time_after_the_gate():
    table = build_features(flights(), WEATHER)
    assert table["planned_minutes"].tolist() == [120, 120]
    assert table["gained"].tolist() == [-6.0, 5.0]
    assert table["temp"].isna().tolist() == [False, True]
    assert not {"arr_time", "dep_time", "air_time"} & set(table.columns)


def test_the_split_leaves_no_day_on_both_sides():
    train, test = split(build_features(flights(), WEATHER), date(2013, 3, 1))
    assert train["date"].max() < test["date"].min()
    with pytest.raises(ValueError, match="leaves one side empty"):
        split(build_features(flights(), WEATHER), date(2014, 1, 1))


def test_impossible_values_are_refused_by_column_and_row():
    with pytest.raises(ValueError, match="distance of 1 flights is not in 1 … 6000, first in row 1"):
        validate(flights(distance=[200, -1]))


def test_the_guess_is_the_delay_at_the_gate():
    table = build_features(flights(), WEATHER)
    assert evaluate_guess(table) == Scores(mean_error=5.5, rms_error=pytest.approx(5.5227, abs=1e-4), within_15=1.0)


def test_the_least_wrong_is_chosen_and_reported():
    scores = {"guess": Scores(13.0, 17.0, 0.67), "linear": Scores(11.5, 16.0, 0.72)}
    assert choose(scores) == "linear"
    page = Path(write_report({"flown": 9, "flights": 10, "cancelled": 1}, scores, "linear")).read_text()
    assert "| linear | 11.50 | 16.00 | 72.0% |" in page
    assert "1.50 minutes better" in page


def test_measures_of_perfect_predictions_are_zero():
    delays = pd.Series([1.0, 2.0])
    assert measure(delays, delays) == Scores(0.0, 0.0, 1.0)
