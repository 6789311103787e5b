"""Times of day as the timetable writes them."""

import pandas as pd


def minutes_since_midnight(clock: pd.Series) -> pd.Series:
    """Turn 1735, which is 17:35, into 1055."""
    return clock // 100 * 60 + clock % 100


def minutes_between(start: pd.Series, end: pd.Series) -> pd.Series:
    """Return the minutes from one time of day to the next time it is the other; arrivals may be after midnight."""
    return (end - start) % (24 * 60)
