"""Judge the models on flights they have never seen, beside the guess that anybody could make."""

from dataclasses import asdict

import pandas as pd
from sklearn.base import BaseEstimator

from cupola import get_logger, log_metrics, step
from steps.features import CATEGORIES, NUMBERS, TARGET
from steps.measures import Scores, measure

logger = get_logger(__name__)


@step
def evaluate_guess(test: pd.DataFrame) -> Scores:
    """Judge the baseline: a flight arrives as late as it leaves."""
    return _judge(test["dep_delay"], test)


@step
def evaluate(model: BaseEstimator, test: pd.DataFrame) -> Scores:
    """Judge a model: the delay at the gate plus what the model says is added or made up."""
    return _judge(test["dep_delay"] + model.predict(test[NUMBERS + CATEGORIES]), test)


@step
def choose(scores: dict[str, Scores]) -> str:
    """Return the name of what is wrong by the fewest minutes on average."""
    best = min(scores, key=lambda name: scores[name].mean_error)
    logger.info("best: %s, wrong by %.1f minutes on average", best, scores[best].mean_error)
    return best


def _judge(predicted: pd.Series, test: pd.DataFrame) -> Scores:
    scores = measure(predicted, test[TARGET])
    log_metrics(asdict(scores))
    logger.info("wrong by %.1f minutes on average, %.0f %% within 15", scores.mean_error, 100 * scores.within_15)
    return scores
