"""Predict the arrival delay of a flight when it leaves the gate, with two models, beside what needs no model."""

from datetime import date
from typing import Annotated

from cupola import File, pipeline
from steps.evaluate import choose, evaluate, evaluate_guess, evaluate_shifted
from steps.features import build_features
from steps.load import data_file, load_flights, load_weather
from steps.report import write_report
from steps.split import split
from steps.train import Boosting, learn_shift, train_boosting, train_linear
from steps.validate import validate


@pipeline(tags=["example"])
def delays(
    flights: File = data_file("flights.csv.zip"),
    weather: File = data_file("weather.csv"),
    choose_from: date = date(2013, 11, 1),
    test_from: date = date(2013, 12, 1),
    alpha: float = 1.0,
    boosting: Boosting = Boosting(),
) -> tuple[Annotated[File, "report"], Annotated[str, "best"]]:
    """Load, validate, build features, split by date, train, choose on one month, report on the next."""
    flown, quality = validate(load_flights(flights))
    train, newer, newest = split(build_features(flown, load_weather(weather)), choose_from, test_from)
    judged = {
        "guess": evaluate_guess(newer, newest),
        "shifted guess": evaluate_shifted(learn_shift(train), newer, newest),
        "linear": evaluate.named("evaluate_linear")(train_linear(train, alpha), newer, newest),
        "boosting": evaluate.named("evaluate_boosting")(train_boosting(train, boosting), newer, newest),
    }
    scores = {name: chosen_on for name, (chosen_on, _) in judged.items()}
    best = choose(scores)
    return write_report(quality, scores, {name: tested for name, (_, tested) in judged.items()}, best), best
