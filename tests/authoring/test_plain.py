"""Steps called as plain functions, as their unit tests do."""

from __future__ import annotations

import asyncio

import pytest

from cupola import CupolaError, add_tags, get_step_context, log_metadata, log_metrics, remove_tags, step


@step
def judge(error: float) -> float:
    log_metrics({"error": error})
    log_metadata({"rows": 3})
    log_metadata({"rows": 3}, target="output")
    add_tags("seen")
    remove_tags("seen")
    return error


@pytest.mark.feature("CORE-02")
def test_a_step_that_records_can_be_called_as_a_function_and_records_nothing(home):
    assert judge(0.5) == 0.5
    assert list(home.iterdir()) == []


@pytest.mark.feature("CORE-02")
def test_an_async_step_that_records_can_be_awaited_as_a_function():
    @step
    async def fetch(number: int) -> int:
        await asyncio.sleep(0)
        log_metrics({"number": number})
        return number

    assert asyncio.run(fetch(3)) == 3


@pytest.mark.feature("CORE-02")
def test_wrong_metadata_is_refused_in_a_plain_call_too():
    @step
    def wrong() -> None:
        log_metrics({"error": "much"})

    with pytest.raises(CupolaError, match="metric 'error' is 'much', which is no number"):
        wrong()


@pytest.mark.feature("CORE-02")
def test_outside_of_any_step_nothing_can_be_recorded():
    judge(0.5)
    with pytest.raises(CupolaError, match="outside of a step"):
        log_metrics({"error": 1.0})
    with pytest.raises(CupolaError, match="outside of a step"):
        get_step_context()
