"""Steps are plain functions outside of a pipeline, so they are tested as such."""

from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from steps.clock import minutes_between, minutes_since_midnight
from steps.evaluate import choose, evaluate_guess, evaluate_shifted
from steps.features import build_features
from steps.measures import Scores, measure
from steps.report import write_report
from steps.split import split
from steps.train import learn_shift
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


def test_the_split_leaves_no_day_in_two_parts():
    table = pd.concat([build_features(flights(month=[month, 6]), WEATHER) for month in (1, 3)])
    train, newer, newest = split(table, date(2013, 3, 1), date(2013, 6, 1))
    assert train["date"].max() < newer["date"].min() <= newer["date"].max() < newest["date"].min()
    for choose_from, test_from in ((date(2013, 3, 1), date(2014, 1, 1)), (date(2013, 6, 1), date(2013, 3, 1))):
        with pytest.raises(ValueError, match="leave a part empty"):
            split(table, choose_from, test_from)


def test_impossible_values_are_refused_by_column_and_row():
    with pytest.raises(ValueError, match="distance of 1 flights is not in 1 … 6000, first in row 1"):
        validate(flights(distance=[200, -1]))


def test_the_guess_is_the_delay_at_the_gate():
    table = build_features(flights(), WEATHER)
    scores = Scores(mean_error=5.5, rms_error=pytest.approx(5.5227, abs=1e-4), within_15=1.0)
    assert evaluate_guess(table, table) == (scores, scores)


def test_the_shifted_guess_knows_what_flights_gain_on_average():
    table = build_features(flights(), WEATHER)
    assert learn_shift(table) == -0.5
    newer, newest = evaluate_shifted(-6.0, table, table[:1])
    assert (newer.mean_error, newest.mean_error) == (5.5, 0.0)


def test_the_choice_and_the_report_use_different_flights():
    chosen_on = {"shifted guess": Scores(12.0, 17.0, 0.67), "linear": Scores(11.5, 16.0, 0.72)}
    tested = {"shifted guess": Scores(12.5, 17.5, 0.66), "linear": Scores(13.0, 18.0, 0.65)}
    assert choose(chosen_on) == "linear"
    page = Path(write_report({"flown": 9, "flights": 10, "cancelled": 1}, chosen_on, tested, "linear")).read_text()
    assert "| linear | 11.50 | 13.00 | 18.00 | 65.0% |" in page
    assert "0.50 minutes worse than the shifted guess" in page


def test_measures_of_perfect_predictions_are_zero():
    delays = pd.Series([1.0, 2.0])
    assert measure(delays, delays) == Scores(0.0, 0.0, 1.0)
