"""Judge models and guesses, on one month to choose among them and on the next to say how good the choice is."""

from dataclasses import asdict
from typing import Annotated

import pandas as pd
from sklearn.base import BaseEstimator
from threadpoolctl import threadpool_limits

from cupola import get_logger, log_metadata, step
from steps.features import CATEGORIES, NUMBERS, TARGET
from steps.measures import Scores, measure

logger = get_logger(__name__)

# Only the first may decide anything; the second is for the report.
Judged = tuple[Annotated[Scores, "to_choose"], Annotated[Scores, "to_report"]]


@step
def evaluate_guess(newer: pd.DataFrame, newest: pd.DataFrame) -> Judged:
    """Judge the plainest guess: a flight arrives as late as it leaves."""
    return _judge(newer, newer["dep_delay"]), _judge(newest, newest["dep_delay"])


@step
def evaluate_shifted(shift: float, newer: pd.DataFrame, newest: pd.DataFrame) -> Judged:
    """Judge the guess that knows how much flights make up on average."""
    return _judge(newer, newer["dep_delay"] + shift), _judge(newest, newest["dep_delay"] + shift)


@step
def evaluate(model: BaseEstimator, newer: pd.DataFrame, newest: pd.DataFrame) -> Judged:
    """Judge a model: the delay at the gate plus what the model says is added or made up."""
    columns = NUMBERS + CATEGORIES
    with threadpool_limits(1, "openmp"):
        first, second = (table["dep_delay"] + model.predict(table[columns]) for table in (newer, newest))
    return _judge(newer, first), _judge(newest, second)


@step
def choose(scores: dict[str, Scores]) -> str:
    """Return the name of what is wrong by the fewest minutes on average."""
    best = min(scores, key=lambda name: scores[name].mean_error)
    logger.info("best: %s, wrong by %.1f minutes on average", best, scores[best].mean_error)
    return best


def _judge(table: pd.DataFrame, predicted: pd.Series) -> Scores:
    scores = measure(predicted, table[TARGET])
    month = f"{table['date'].min():%B}"
    log_metadata({f"{month}: {name}": value for name, value in asdict(scores).items()})
    logger.info("%s: wrong by %.1f minutes, %.0f %% within 15", month, scores.mean_error, 100 * scores.within_15)
    return scores
