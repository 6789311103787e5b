"""Predict the arrival delay of a flight when it leaves the gate, with two models and an honest baseline."""

from datetime import date
from typing import Annotated

from cupola import File, pipeline
from steps.evaluate import choose, evaluate, evaluate_guess
from steps.features import build_features
from steps.load import data_file, load_flights, load_weather
from steps.report import write_report
from steps.split import split
from steps.train import Boosting, train_boosting, train_linear
from steps.validate import validate


@pipeline(tags=["example"])
def delays(
    flights: File = data_file("flights.csv.zip"),
    weather: File = data_file("weather.csv"),
    test_from: date = date(2013, 10, 1),
    alpha: float = 1.0,
    boosting: Boosting = Boosting(),
) -> tuple[Annotated[File, "report"], Annotated[str, "best"]]:
    """Load, validate, build features, split by date, train, compare, report."""
    flown, quality = validate(load_flights(flights))
    train, test = split(build_features(flown, load_weather(weather)), test_from)
    scores = {
        "guess": evaluate_guess(test),
        "linear": evaluate.named("evaluate_linear")(train_linear(train, alpha), test),
        "boosting": evaluate.named("evaluate_boosting")(train_boosting(train, boosting), test),
    }
    best = choose(scores)
    return write_report(quality, scores, best), best
