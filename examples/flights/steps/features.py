"""Make what the models may know: only what is known at the moment when a flight leaves the gate.

Known then: the timetable, the airline, the weather of that hour, and how late the flight leaves. Not known, and not
used: when it took off or landed, how long it was in the air, and whatever later flights tell.
"""

import pandas as pd

from cupola import get_logger, step
from steps.clock import minutes_between, minutes_since_midnight

logger = get_logger(__name__)

NUMBERS = [
    "dep_delay", "distance", "minute_of_day", "planned_minutes", "weekday",
    "temp", "wind_speed", "precip", "visib", "pressure",
]  # fmt: skip
CATEGORIES = ["carrier", "origin", "dest"]
# What is to be predicted, and what the models learn: how much of the delay is added or made up after the gate.
TARGET, GAINED = "arr_delay", "gained"


@step
def build_features(flights: pd.DataFrame, weather: pd.DataFrame) -> pd.DataFrame:
    """Return one row per flight: date, features, target."""
    table = flights.merge(weather, on=["origin", "time_hour"], how="left", validate="many_to_one")
    table["date"] = pd.to_datetime({"year": 2013, "month": table["month"], "day": table["day"]})
    table["weekday"] = table["date"].dt.day_of_week
    table["minute_of_day"] = table["hour"] * 60 + table["minute"]
    arrival = minutes_since_midnight(table["sched_arr_time"])
    table["planned_minutes"] = minutes_between(table["minute_of_day"], arrival)
    table[GAINED] = table[TARGET] - table["dep_delay"]
    for column in CATEGORIES:
        table[column] = table[column].astype("category")
    logger.info("%.1f %% of the flights have the weather of their hour", 100 * table["temp"].notna().mean())
    return table[["date", *NUMBERS, *CATEGORIES, TARGET, GAINED]]
