"""Wirings that type checkers must judge: a line marked as wrong at its end has one mistake, no other has any.

The golden file beside this one holds what pyright and mypy say of each; `test_typing.py` compares. Nothing here runs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression

from cupola import CachePolicy, Mapped, Retry, pipeline, step, unmapped

T = TypeVar("T")


@dataclass
class Config:
    rate: float = 0.1


class Base:
    pass


class Derived(Base):
    pass


class Parts(NamedTuple):
    left: pd.DataFrame
    size: int


class HasShape(Protocol):
    @property
    def shape(self) -> tuple[int, int]: ...


@step
def number() -> int:
    return 1


@step
def ratio() -> float:
    return 0.5


@step
def word() -> str:
    return "a"


@step
def maybe() -> int | None:
    return None


@step(retry=3, cache=CachePolicy(env=("HOME",)))
def load(path: str, rows: int = 10) -> pd.DataFrame:
    return pd.DataFrame({"path": [path] * rows})


@step
def split(table: pd.DataFrame, share: float = 0.2) -> tuple[
    Annotated[pd.DataFrame, "train"], Annotated[pd.Series[float], "target"]
]:
    return table, pd.Series([share])


@step
def fit(table: pd.DataFrame, target: pd.Series[float]) -> LinearRegression:
    model = LinearRegression()
    model.fit(table, target)
    return model


@step
def classify(table: pd.DataFrame) -> LogisticRegression:
    return LogisticRegression()


@step
def score(model: BaseEstimator, table: pd.DataFrame) -> float:
    return 1.0


@step
def report(scores: Sequence[float], *, title: str = "report") -> str:
    return f"{title}: {scores}"


@step
def twice(value: int) -> int:
    return value * 2


@step
def scale(value: float) -> float:
    return value * 2


@step
def configured(config: Config) -> float:
    return config.rate


@step
def derived() -> Derived:
    return Derived()


@step
def use_base(value: Base) -> None:
    return None


@step
def use_derived(value: Derived) -> None:
    return None


@step
def parts(table: pd.DataFrame) -> Parts:
    return Parts(table, len(table))


@step
def matrix() -> NDArray[np.float64]:
    return np.zeros((2, 2))


@step
def use_matrix(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values


@step
def shape_of(table: HasShape) -> int:
    return table.shape[0]


@step
def choose(mode: Literal["fast", "exact"]) -> str:
    return mode


@step
def words() -> list[str]:
    return ["a"]


@step
def lengths(items: list[str]) -> dict[str, int]:
    return {item: len(item) for item in items}


@step
def use_lengths(items: dict[str, int]) -> int:
    return len(items)


@step
async def fetch(url: str) -> bytes:
    return url.encode()


@step(timeout=5)
async def parse(data: bytes) -> dict[str, int]:
    return {"size": len(data)}


@step
def same(value: T) -> T:
    return value


@step
def anything(value: Any) -> Any:
    return value


@step
def optional(value: int | None = None) -> int:
    return value or 0


@step
def find() -> list[int]:
    return [1]


@step
def total(numbers: list[int]) -> int:
    return sum(numbers)


@step
def weigh(number: int, weight: float = 1.0) -> float:
    return number * weight


@step
def both(number: int) -> tuple[Annotated[int, "low"], Annotated[str, "text"]]:
    return number, str(number)


@step
def three(number: int) -> tuple[int, str, float]:
    return number, str(number), 0.5


@step
def keywords(*, number: int, name: str) -> str:
    return name * number


def tag(text: str, suffix: str) -> str:
    return text + suffix


tagged = step(tag, name="tagged", retry=Retry(attempts=2))
tagged_one = step(functools.partial(tag, suffix="one"), name="one")


@pipeline
def prepared(path: str, rows: int = 5) -> pd.DataFrame:
    return load(path, rows)


@pipeline(on_error="continue", tags=["nightly"])
def right(path: str = "data.csv") -> tuple[Annotated[LinearRegression, "model"], Annotated[str, "text"]]:
    table = load(path)
    train, target = split(table, share=0.3)
    model = fit(train, target)
    logistic = classify(train)
    scores = [score(model, train), score(logistic, table=train)]
    text = report(scores, title="both")
    report((score(model, train), 0.5))
    twice(number())
    twice(twice(3))
    scale(number())
    scale(ratio())
    optional(maybe())
    optional(number())
    configured(Config(0.2))
    use_base(derived())
    use_derived(derived())
    left, size = parts(train)
    classify(left)
    twice(size)
    twice(parts(train).size)
    use_matrix(matrix())
    shape_of(load(path))
    choose("fast")
    use_lengths(lengths(words()))
    use_lengths(parse(fetch("https://example.org")))
    twice(same(number()))  # right, though mypy can't follow generic functions through overloads
    twice(anything(word()))
    word_again: str = tagged(word(), suffix="b")
    tagged_one(word_again)
    twice.named("last")(number())
    twice.after(model, text)(number())
    twice.with_options(cache=False, retry=Retry(attempts=3))(number())
    twice.map(find())
    twice.map([1, number(), 2])
    twice.map({1, 2}).collect()
    twice.map(item for item in range(3))
    total(twice.map(twice.map(find())))
    total(twice.map((1, 2)).collect(allow_failures=True))
    mapped: Mapped[float] = weigh.map(find(), weight=unmapped(ratio()))
    report(mapped)
    report(weigh.product(find(), weight=[0.5, 1.0], batch=200))
    weigh.map(unmapped(1), weight=[0.5])
    weigh.map(number=find(), weight=[0.5])
    keywords.map(number=find(), name=unmapped("a"))
    lows, texts = both.map(find())
    total(lows)
    lengths(texts)
    lows, texts = both.map(number=[1, 2])
    total(three.map([1])[0])
    lengths(three.product([1])[1])
    total.map([[1, 2], twice.map([1])])
    twice.map(total.map([[1]]))
    use_words: list[str] = tagged.map(["a"], suffix=unmapped("b"))
    twice.named("mapped").with_options(cache=False).after(model).map(find())
    classify(prepared.inline("a.csv"))
    prepared.with_options(tags=["a"]).inline("a.csv", rows=3)
    return model, text


@pipeline
def wrong(path: str, rows: int) -> float:
    table = load(path)
    train, target = split(table)
    model = fit(train, target)
    classify(number())  # wrong
    classify(word())  # wrong
    classify(model)  # wrong
    classify(target)  # wrong
    classify(split(table))  # wrong
    classify(matrix())  # wrong
    fit(target, train)  # wrong
    fit(train)  # wrong
    score(train, train)  # wrong
    score(model, score(model, train))  # wrong
    report(number())  # wrong
    report([word()])  # wrong
    report([0.5], "title")  # wrong
    load(path, rows="3")  # wrong
    load(path, row=3)  # wrong
    load(table)  # wrong
    twice(ratio())  # wrong
    twice(maybe())  # wrong
    configured({"rate": 0.2})  # wrong
    use_derived(Base())  # wrong
    use_matrix(table)  # wrong
    shape_of(words())  # wrong
    choose("slow")  # wrong
    choose(word())  # wrong
    use_lengths(words())  # wrong
    lengths([number()])  # wrong
    parse(fetch)  # wrong
    parse(fetch(b"url"))  # wrong
    classify(fetch("https://example.org"))  # wrong
    classify(same(number()))  # wrong
    twice(tagged("a", "b"))  # wrong
    twice(tagged_one("a"))  # wrong
    classify(parts(table).size)  # wrong
    twice.named("last")(word())  # wrong
    twice.after(model)(word())  # wrong
    twice.with_options(cache=False)(word())  # wrong
    twice.with_options(caching=False)(number())  # wrong
    twice.with_options(retry="3")(number())  # wrong
    classify(prepared(path))  # wrong
    prepared.inline(rows)  # wrong
    fit.fn(train, number())  # wrong
    a, b, c = split(table)  # wrong
    twice.map(words())  # wrong
    twice.map([1, "a"])  # wrong
    twice.map(3)  # wrong
    twice.map(number())  # wrong
    twice.map(unmapped("a"))  # wrong
    twice(twice.map([1]))  # wrong
    twice(unmapped(1))  # wrong
    lengths(twice.map([1]))  # wrong
    total(weigh.map([1]))  # wrong
    total(weigh.map([1]).collect())  # wrong
    weigh.map(weigh.map([1]))  # wrong
    keywords.map([1], name=["a"])  # wrong
    lows, texts = both.map([1])
    total(texts)  # wrong
    total(both.map([1]))  # wrong
    twice.map([1]).gather()  # wrong
    twice.product(words())  # wrong
    lengths(lows)  # wrong
    return word()  # wrong


@step(name=3)  # wrong
def misnamed() -> None:
    return None


@step(retries=3)  # wrong
def misspelt() -> None:
    return None


@pipeline(on_error="ignore")  # wrong
def misdirected() -> None:
    return None


def runs() -> None:
    right(path="may.csv")
    right.compile("may.csv")
    twice.run(3)
    right(path=3)  # wrong
    right(paths="may.csv")  # wrong
    right.compile(3)  # wrong
    twice.run("3")  # wrong
