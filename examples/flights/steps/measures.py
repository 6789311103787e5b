"""How wrong predictions are, in minutes."""

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Scores:
    """How wrong predictions are: mean absolute and root mean squared error, and the share within 15 minutes."""

    mean_error: float
    rms_error: float
    within_15: float


def measure(predicted: pd.Series, true: pd.Series) -> Scores:
    """Compare predictions with what happened, both in minutes and `(n_flights,)`."""
    error = predicted - true
    return Scores(
        mean_error=float(error.abs().mean()),
        rms_error=float(np.sqrt((error**2).mean())),
        within_15=float((error.abs() <= 15).mean()),
    )
