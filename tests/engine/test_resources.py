"""What steps need of their host: said once, counted over all processes there, free again when a holder dies."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola import ConfigError, Resources
from cupola.entities.resources import Amounts, read_bytes

# What users write


@pytest.mark.feature("ENG-02")
def test_resources_name_slots_beside_the_known_kinds() -> None:
    said = Resources(cpu=2, memory="8GiB", gpu=1, gpu_type="a100", licence=1, db=0.5)
    assert said.amounts == Amounts(2.0, 8 * 1024**3, 1, "a100", {"db": 0.5, "licence": 1.0})
    assert repr(said) == "Resources(cpu=2, memory='8GiB', gpu=1, gpu_type='a100', licence=1, db=0.5)"
    assert Resources().amounts == Amounts()
    assert Resources(gpu_type="h100").amounts.gpu == 1, "a type alone asks for one"


@pytest.mark.feature("ENG-02")
def test_resources_are_values_equal_by_their_amounts() -> None:
    one, same = Resources(memory="2GiB", a=1, b=2), Resources(memory=2 * 1024**3, b=2, a=1)
    assert one == same
    assert hash(one) == hash(same)
    assert one != Resources(memory="2GB", a=1, b=2)
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one


@pytest.mark.feature("ENG-02")
@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("8GiB", 8 * 1024**3), ("8Gi", 8 * 1024**3), ("8 gib", 8 * 1024**3), ("8GB", 8 * 1000**3), ("8G", 8 * 1000**3),
        ("1.5 MiB", 1572864), ("1500000", 1500000), ("2e6 B", 2000000), ("1TB", 1000**4), ("0.1kB", 100),
        ("", None), ("8 apples", None), ("-1GB", None), ("0", None), ("nan", None), ("infGB", None), ("8GiBB", None),
        ("G", None), ("1e30PB", None),
    ],
)  # fmt: skip
def test_memory_is_read_with_its_unit(text: str, size_bytes: int | None) -> None:
    assert read_bytes(text) == size_bytes


@pytest.mark.feature("ENG-02")
@given(st.integers(1, 2**40))
def test_memory_as_a_number_is_memory_as_a_text(number: int) -> None:
    assert read_bytes(str(number)) == read_bytes(f"{number}B") == number


@pytest.mark.feature("ENG-02")
@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"cpu": 0}, "cpu=0) must be a number above 0"),
        ({"cpu": True}, "cpu=True"),
        ({"cpu": float("nan")}, "cpu=nan"),
        ({"cpu": "2"}, "cpu='2'"),
        ({"memory": "8 apples"}, "memory='8 apples') is no amount of memory: write bytes, or a text such as"),
        ({"memory": 8}, "write the unit, such as '8GiB'"),
        ({"memory": -1}, "memory=-1"),
        ({"memory": None, "gpu": 0.5}, "isn't shared between steps"),
        ({"gpu": -1}, "gpu=-1"),
        ({"gpu_type": " "}, "gpu_type=' '"),
        ({"licence": "one"}, "slot 'licence' can't be 'one'"),
        ({"licence": 0}, "write the amount as a number, such as licence=1"),
        ({"licence": 10**400}, "slot 'licence'"),
        ({"slots": {"licence": 1}}, "name each slot by itself: Resources(licence=1)"),
        ({"a,b": 1}, "'a,b' is no name of a slot"),
    ],
)
def test_amounts_that_make_no_sense_are_refused_where_they_are_written(said: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Resources(**said)
    assert words in str(caught.value)
