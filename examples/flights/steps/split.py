"""Hold back the newest flights, as a model in use meets only days that it has never seen."""

from datetime import date
from typing import Annotated

import pandas as pd

from cupola import get_logger, step

logger = get_logger(__name__)


@step
def split(
    table: pd.DataFrame, choose_from: date, test_from: date
) -> tuple[Annotated[pd.DataFrame, "train"], Annotated[pd.DataFrame, "newer"], Annotated[pd.DataFrame, "newest"]]:
    """Split by date into flights to learn from, to choose a model on, and to report on.

    No day's weather or congestion is in two parts, and nothing is decided by the last one.

    Raises:
        ValueError: One of the parts would be empty.
    """
    start, end = pd.Timestamp(choose_from), pd.Timestamp(test_from)
    days = table["date"]
    parts = [table[days < start], table[(days >= start) & (days < end)], table[days >= max(start, end)]]
    if any(part.empty for part in parts):
        raise ValueError(
            f"choose_from={choose_from} and test_from={test_from} leave a part empty: "
            f"the flights go from {days.min().date()} to {days.max().date()}"
        )
    train, newer, newest = (part.reset_index(drop=True) for part in parts)
    logger.info("%d flights to train on, %d to choose on, %d to report on", len(train), len(newer), len(newest))
    return train, newer, newest
