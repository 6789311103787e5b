"""Train two models of different kinds on the same question: how much delay is added or made up after the gate."""

from dataclasses import dataclass
from typing import Annotated

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from cupola import ArtifactConfig, get_logger, log_metrics, step
from steps.features import CATEGORIES, GAINED, NUMBERS

logger = get_logger(__name__)


@dataclass(frozen=True)
class Boosting:
    """How the boosted trees grow."""

    rounds: int = 100
    learning_rate: float = 0.1
    leaves: int = 31


@step
def learn_shift(train: pd.DataFrame) -> float:
    """Return how much the delay grows on average between gates, in minutes; negative, since flights make time up."""
    return float(train[GAINED].mean())


@step
def train_linear(train: pd.DataFrame, alpha: float) -> Annotated[Pipeline, ArtifactConfig(name="linear", kind="model")]:
    """Fit a ridge regression on scaled numbers and one column per airline and airport."""
    numbers = Pipeline([("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler())])
    categories = OneHotEncoder(handle_unknown="ignore", min_frequency=100)
    columns = ColumnTransformer([("numbers", numbers, NUMBERS), ("categories", categories, CATEGORIES)])
    return Pipeline([("columns", columns), ("ridge", Ridge(alpha))]).fit(train, train[GAINED])


@step
def train_boosting(
    train: pd.DataFrame, settings: Boosting
) -> Annotated[HistGradientBoostingRegressor, ArtifactConfig(name="boosting", kind="model")]:
    """Fit boosted trees; they take categories and missing weather as they are."""
    model = HistGradientBoostingRegressor(
        max_iter=settings.rounds,
        learning_rate=settings.learning_rate,
        max_leaf_nodes=settings.leaves,
        categorical_features="from_dtype",
        random_state=0,
    )
    # Its threads wait for each other by spinning: on two busy cores one thread took 4.5 s, two took 27 s.
    with threadpool_limits(1, "openmp"):
        model.fit(train[NUMBERS + CATEGORIES], train[GAINED])
    log_metrics({"rounds": model.n_iter_})
    logger.info("grew %d trees", model.n_iter_)
    return model
