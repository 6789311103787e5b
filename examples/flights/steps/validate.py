"""Say what is wrong with the data before anything learns from it."""

from typing import Annotated

import pandas as pd

from cupola import get_logger, log_metadata, step

logger = get_logger(__name__)

# What no flight can be; a value outside means a broken column, not a late plane.
POSSIBLE = {"dep_delay": (-120, 24 * 60), "arr_delay": (-180, 24 * 60), "distance": (1, 6000), "hour": (0, 23)}
MOST_MISSING = 0.05


@step
def validate(flights: pd.DataFrame) -> tuple[Annotated[pd.DataFrame, "flown"], Annotated[dict[str, int], "quality"]]:
    """Keep the flights that were flown and arrived where they should; refuse a table that can't be what it says.

    Raises:
        ValueError: A column holds values that are impossible, or too many flights have no arrival.
    """
    for column, (low, high) in POSSIBLE.items():
        wrong = flights[(flights[column] < low) | (flights[column] > high)]
        if len(wrong):
            raise ValueError(
                f"{column} of {len(wrong)} flights is not in {low} … {high}, first in row {wrong.index[0]}"
            )
    cancelled = flights["dep_delay"].isna()
    # Diverted flights, and a few whose arrival nobody wrote down: there is nothing to learn from them.
    no_arrival = flights["arr_delay"].isna() & ~cancelled
    if (cancelled | no_arrival).mean() > MOST_MISSING:
        raise ValueError(f"{(cancelled | no_arrival).mean():.1%} of the flights have no arrival delay")
    quality = {
        "flights": len(flights),
        "cancelled": int(cancelled.sum()),
        "without arrival": int(no_arrival.sum()),
        "flown": int((~(cancelled | no_arrival)).sum()),
    }
    logger.info("%(flown)d of %(flights)d flights were flown; %(cancelled)d were cancelled", quality)
    log_metadata(quality, target="flown")
    return flights[~(cancelled | no_arrival)].reset_index(drop=True), quality
