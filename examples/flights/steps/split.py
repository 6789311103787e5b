"""Hold back the newest flights, as a model in use meets only days that it has never seen."""

from datetime import date
from typing import Annotated

import pandas as pd

from cupola import get_logger, step

logger = get_logger(__name__)


@step
def split(
    table: pd.DataFrame, test_from: date
) -> tuple[Annotated[pd.DataFrame, "train"], Annotated[pd.DataFrame, "test"]]:
    """Split by date, so that no day's weather or congestion is on both sides.

    Raises:
        ValueError: One of the sides would be empty.
    """
    later = table["date"] >= pd.Timestamp(test_from)
    if later.all() or not later.any():
        first, last = table["date"].min().date(), table["date"].max().date()
        raise ValueError(f"test_from={test_from} leaves one side empty: the flights go from {first} to {last}")
    logger.info("training on %d flights, testing on %d", (~later).sum(), later.sum())
    return table[~later].reset_index(drop=True), table[later].reset_index(drop=True)
