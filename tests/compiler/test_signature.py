"""What functions take and give, read without `inspect`."""

from __future__ import annotations

import asyncio
import collections
import functools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NoReturn,
    Optional,
    ParamSpec,
    Self,
    TypeVar,
)

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from cupola.compiler.annotations import NO_ANNOTATION, type_text
from cupola.compiler.signature import read_signature
from cupola.entities.options import ArtifactConfig
from cupola.errors import CompileError

if TYPE_CHECKING:
    from decimal import Decimal

pytestmark = pytest.mark.feature("CORE-02")

T = TypeVar("T")
P = ParamSpec("P")
UserId = NewType("UserId", int)


class Row:
    class Cell:
        pass

    def copy(self, other: Cell) -> Self:
        return self

    def __call__(self) -> int:
        return 1

    @staticmethod
    def parse(text: Cell) -> Cell:
        return text


class Split(NamedTuple):
    train: pd.DataFrame
    test: Annotated[pd.DataFrame, "held out"]
    size: int = 0


class Pair(NamedTuple, Generic[T]):
    left: T
    right: int


def outputs(function: Callable[..., Any]) -> list[tuple[str, str]]:
    return [(output.name, output.text) for output in read_signature(function).outputs]


def keep_names(function: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)

    return inner


def fit(
    table: pd.DataFrame,
    /,
    rate: float = 0.1,
    *,
    seed: int | None = None,
    names: list[Row] = [],  # noqa: B006 — kept
) -> Annotated[Row, "model"]:
    return Row()


def names_of(function: Callable[..., Any]) -> list[str]:
    return [parameter.name for parameter in read_signature(function).parameters]


def test_parameters_keep_order_defaults_and_how_they_may_be_given() -> None:
    table, rate, seed, names = read_signature(fit).parameters
    assert (table.name, table.annotation, table.has_default, table.positional_only) == (
        "table",
        pd.DataFrame,
        False,
        True,
    )
    assert (rate.annotation, rate.has_default, rate.default, rate.keyword_only) == (float, True, 0.1, False)
    assert (seed.annotation, seed.default, seed.has_default, seed.keyword_only) == (int | None, None, True, True)
    assert names.annotation == list[Row]
    assert names.default == []


def test_what_has_no_annotation_is_any_type_and_one_output() -> None:
    def untyped(a, b=2):
        return a

    signature = read_signature(untyped)
    assert [parameter.annotation for parameter in signature.parameters] == [NO_ANNOTATION, NO_ANNOTATION]
    assert outputs(untyped) == [("output", "Any")]
    assert signature.outputs[0].annotation is Any
    assert not signature.multiple


def test_none_means_no_outputs() -> None:
    def nothing() -> None: ...

    def never() -> NoReturn:
        raise SystemExit

    assert outputs(nothing) == outputs(never) == []


def test_wraps_keeps_parameters_types_and_names_of_the_wrapped_function() -> None:
    wrapped = keep_names(keep_names(fit))
    assert read_signature(wrapped) == read_signature(fit)
    assert names_of(functools.lru_cache(fit)) == names_of(fit)


def test_a_wrapper_with_parameters_of_its_own_is_called_with_those() -> None:
    @functools.wraps(fit)
    def inner(rate: float) -> Row:
        return fit(pd.DataFrame(), rate)

    (rate,) = read_signature(inner).parameters
    assert rate.annotation is float
    assert outputs(inner)[0][0] == "model"


def test_a_partial_removes_what_it_gives_by_place_and_defaults_what_it_gives_by_name() -> None:
    def train(a: int, b: str, c: float = 1.0) -> str:
        return b

    assert names_of(functools.partial(train, 1)) == ["b", "c"]
    a, b, c = read_signature(functools.partial(train, b="x")).parameters
    assert not a.keyword_only
    assert (b.has_default, b.default, b.keyword_only) == (True, "x", True)
    assert c.keyword_only
    assert names_of(functools.partial(functools.partial(train, 1), "y")) == ["c"]
    assert outputs(functools.partial(train, 1)) == [("output", "str")]
    assert names_of(functools.partial(keep_names(train), 1)) == ["b", "c"]


@pytest.mark.parametrize(
    ("partial", "text"),
    [
        (functools.partial(len, 1), "built in"),
        (functools.partial(keep_names, 1, 2), "2 arguments by place, but its function takes 1"),
        (functools.partial(keep_names, 1, function=2), "function=…, which its function doesn't take or already has"),
        (functools.partial(keep_names, rate=2), "rate=…, which its function doesn't take"),
    ],
)
def test_a_partial_that_could_never_be_called_is_refused(partial: Any, text: str) -> None:
    with pytest.raises(CompileError, match=text):
        read_signature(partial)


def test_async_functions_give_what_they_return() -> None:
    async def fetch(url: str) -> Annotated[bytes, "page"]:
        return url.encode()

    def later(url: str) -> Awaitable[bytes]:
        return fetch(url)

    def soon() -> Coroutine[Any, Any, tuple[int, str]]: ...

    assert outputs(fetch) == [("page", "bytes")]
    assert outputs(later) == [("output", "bytes")]
    assert outputs(soon) == [("output_0", "int"), ("output_1", "str")]
    assert asyncio.run(fetch("a")) == b"a"


def test_static_methods_are_functions_and_see_the_names_of_their_class() -> None:
    assert read_signature(Row.parse).parameters[0].annotation is Row.Cell
    assert read_signature(vars(Row)["parse"]).outputs[0].annotation is Row.Cell


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Row(), "an object that can be called"),
        (Row, "it is a class"),
        (Row().copy, "a method bound to an object"),
        (len, "built in"),
    ],
)
def test_what_is_no_function_is_refused_with_its_kind_and_a_way_out(value: Any, text: str) -> None:
    with pytest.raises(CompileError, match=text) as caught:
        read_signature(value)
    assert caught.value.fix.startswith(("write a function", "call it in a function"))


def test_variable_arguments_are_refused_by_name() -> None:
    def many(first: int, *rows: int, **options: str) -> int:
        return first

    with pytest.raises(CompileError, match=r"many\(\) takes \*rows and \*\*options") as caught:
        read_signature(many)
    assert "functools.wraps" in caught.value.fix
    assert caught.value.where.startswith(__file__)


def test_fixed_tuples_are_several_outputs_named_by_annotation_or_place() -> None:
    def split() -> tuple[Annotated[pd.DataFrame, "train"], int, Annotated[Row, ArtifactConfig(name="model")]]: ...

    def one() -> tuple[int]: ...

    assert outputs(split) == [("train", "pandas.DataFrame"), ("output_1", "int"), ("model", type_text(Row))]
    assert read_signature(split).multiple
    assert read_signature(split).outputs[2].config == ArtifactConfig(name="model")
    assert outputs(one) == [("output_0", "int")]
    assert read_signature(one).multiple


def test_named_tuples_are_several_outputs_named_by_field() -> None:
    def split() -> Split: ...

    def pair() -> Pair[str]: ...

    def loose() -> collections.namedtuple("Loose", "a b"): ...

    assert outputs(split) == [("train", "pandas.DataFrame"), ("held out", "pandas.DataFrame"), ("size", "int")]
    assert read_signature(split).named_tuple is Split
    assert [name for name, _ in outputs(pair)] == ["left", "right"]
    assert outputs(loose) == [("a", "Any"), ("b", "Any")]


def test_other_tuples_are_one_value() -> None:
    def many() -> tuple[int, ...]: ...
    def empty() -> tuple[()]: ...
    def bare() -> tuple: ...
    def pair() -> Annotated[tuple[int, str], "pair"]: ...
    def config() -> Annotated[tuple[int, str], ArtifactConfig(tags=["a"])]: ...
    def maybe() -> tuple[int, str] | None: ...
    def unpacked() -> tuple[int, *tuple[str, ...]]: ...

    assert outputs(many) == [("output", "tuple[int, ...]")]
    assert outputs(empty) == outputs(bare) == [("output", "tuple")]
    assert outputs(pair) == [("pair", "tuple[int, str]")]
    assert outputs(config) == [("output", "tuple[int, str]")]
    assert outputs(maybe) == [("output", "tuple[int, str] | None")]
    assert outputs(unpacked)[0][0] == "output"


def test_notes_of_other_tools_inside_annotated_change_nothing() -> None:
    def split() -> Annotated[tuple[int, str], 42]: ...

    assert [name for name, _ in outputs(split)] == ["output_0", "output_1"]


def test_a_text_names_the_output_and_the_config_names_the_artifact() -> None:
    def train() -> Annotated[Row, "model", ArtifactConfig(name="churn/model")]: ...

    def fitted() -> Annotated[Row, ArtifactConfig(name="churn")]: ...

    (output,) = read_signature(train).outputs
    assert (output.name, output.config) == ("model", ArtifactConfig(name="churn/model"))
    assert outputs(fitted)[0][0] == "churn"


def test_two_outputs_of_one_name_are_refused() -> None:
    def twice() -> tuple[Annotated[int, "a"], Annotated[int, "a"]]: ...

    def placed() -> tuple[int, Annotated[int, "output_0"]]: ...

    with pytest.raises(CompileError, match="two outputs named 'a'"):
        read_signature(twice)
    with pytest.raises(CompileError, match="two outputs named 'output_0'"):
        read_signature(placed)


def test_two_names_of_one_output_are_refused() -> None:
    def train() -> Annotated[int, "a", "b"]: ...

    with pytest.raises(CompileError, match="more than once: 'a', 'b'"):
        read_signature(train)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "it is empty"),
        ("a" * 201, "201 letters"),
        ("a\nb", "can't be shown"),
        ("a\x1b[2J", "can't be shown"),
        ("a\u202eb", "can't be shown"),
        (" a", "blank"),
        ("a/b", "'/'"),
    ],
)
def test_hostile_names_of_outputs_are_refused_without_being_obeyed(name: str, text: str) -> None:
    def train(): ...

    train.__annotations__["return"] = Annotated[int, name]
    with pytest.raises(CompileError, match=text) as caught:
        read_signature(train)
    assert caught.value.what.isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["0.94", "données", "a b", "../x".replace("/", "."), "<b>", "👩\u200d🔬", "a" * 200])
def test_any_other_text_is_a_name(name: str) -> None:
    def train(): ...

    train.__annotations__["return"] = Annotated[int, name]
    assert outputs(train)[0][0] == name


def test_generators_are_refused_until_items_can_be_stored_one_by_one() -> None:
    def rows():
        yield 1

    async def pages():
        yield 1

    def iterator() -> Iterator[int]: ...
    def generator() -> Generator[int, None, None]: ...
    def remote() -> AsyncIterator[int]: ...

    for function in (rows, pages, iterator, generator, remote):
        with pytest.raises(CompileError, match="one by one can't be stored yet") as caught:
            read_signature(function)
        assert "return a list" in caught.value.fix


def test_names_for_type_checkers_only_are_named_with_function_and_place() -> None:
    def price(value: Decimal) -> int:
        return 1

    with pytest.raises(CompileError) as caught:
        read_signature(price)
    assert "the annotation 'Decimal' of parameter 'value' of price() names 'Decimal'" in caught.value.what
    assert caught.value.where.startswith(f"{__file__}:")
    assert "TYPE_CHECKING" in caught.value.fix


def test_annotations_that_are_no_types_are_named() -> None:
    def broken(value: 1 / 0) -> int:
        return 1

    with pytest.raises(CompileError, match=r"parameter 'value' of broken\(\) can't be read \(ZeroDivisionError"):
        read_signature(broken)


def test_local_classes_are_found_through_the_closure() -> None:
    def make() -> Callable[..., Any]:
        class Local:
            pass

        def use(value: Local) -> list[Local]:
            return [value, Local()]

        return use

    use = make()
    signature = read_signature(use)
    assert signature.outputs[0].annotation == list[signature.parameters[0].annotation]
    assert signature.outputs[0].text == "list[" + type_text(Row).replace("Row", "Local") + "]"


def test_local_classes_are_found_in_the_function_that_is_still_running() -> None:
    class Local:
        pass

    def use(value: Local, others: Optional[list["Local"]] = None) -> dict[str, Local]:  # noqa: UP037, UP045 — the point
        return {}

    def deeper() -> Any:
        return read_signature(keep_names(use))

    assert deeper().parameters[0].annotation is Local
    assert deeper().outputs[0].annotation == dict[str, Local]


def test_brackets_that_only_type_checkers_know_are_left_out() -> None:
    def mean(
        values: pd.Series[float], more: dict[str, pd.Series[list[int]]]
    ) -> Annotated[pd.Series[float], "mean"]: ...

    first, more = read_signature(mean).parameters
    assert (first.annotation, more.annotation) == (pd.Series, dict[str, pd.Series])
    assert outputs(mean) == [("mean", "pandas.Series")]


def test_each_function_is_read_once() -> None:
    assert read_signature(fit) is read_signature(fit)


def test_decorating_reads_no_annotation() -> None:
    # Only a compile may fail on a name that isn't known.
    from cupola import step

    @step
    def price(value: Decimal) -> int:
        return 1

    assert price(3) == 1  # type: ignore[arg-type] — the annotation isn't the point


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement is new in Python 3.12")
def test_type_statements_and_type_parameters_are_opened() -> None:
    names: dict[str, Any] = {"__name__": __name__}
    code = """
type Pair = tuple[int, Name]
type Both[T] = tuple[T, T]
type Unknown = Missing
Name = str
def pair() -> Pair: ...
def both() -> Both[str]: ...
def same[T](value: "list[T]") -> "T": ...
def unknown() -> Unknown: ...
"""
    exec(code, names)
    assert outputs(names["pair"]) == [("output_0", "int"), ("output_1", "str")]
    assert outputs(names["both"]) == [("output_0", "str"), ("output_1", "str")]
    assert outputs(names["same"]) == [("output", "T")]
    with pytest.raises(CompileError, match="'Missing'"):
        read_signature(names["unknown"])


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (None, "None"),
        (Any, "Any"),
        (pd.DataFrame, "pandas.DataFrame"),
        (np.float32, "numpy.float32"),
        (NDArray[np.float64], "numpy.ndarray[numpy.float64]"),
        (Optional["Row"], "Row | None"),
        (dict[str, tuple[int, ...]], "dict[str, tuple[int, ...]]"),
        (Literal["a", 1, None], "Literal['a', 1, None]"),
        (Callable[[int, str], bool], "Callable[[int, str], bool]"),
        (Callable[..., None], "Callable[..., None]"),
        (Annotated[int, "n"], "int"),
        (UserId, "UserId"),
        (T, "T"),
        (type[int], "type[int]"),
        (collections.OrderedDict, "collections.OrderedDict"),
        ("Row", "Row"),
    ],
)
def test_types_have_short_names(annotation: Any, text: str) -> None:
    assert type_text(annotation) == text


def test_names_of_types_hold_no_address_and_the_public_module() -> None:
    from sklearn.linear_model import LogisticRegression

    assert type_text(LogisticRegression) == "sklearn.linear_model.LogisticRegression"
    assert "0x" not in type_text(Annotated[object, object()])
    assert "0x" not in type_text(object())


def test_types_of_the_program_are_named_by_its_file(tmp_path: Any, run_python: Any) -> None:
    (tmp_path / "go.py").write_text(
        "from cupola.compiler.annotations import type_text\nclass Config: pass\n"
        "if __name__ == '__main__': import go; print(type_text(Config), type_text(go.Config))\n"
    )
    result = run_python("go.py")
    assert result.stdout == "go.Config go.Config\n", result.stderr
