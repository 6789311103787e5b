"""Every error that Cupola raises on purpose.

CupolaError
├── CompileError        wiring, types or names of a pipeline are wrong
│   └── RunAtImport     a run was started while its file was only being imported
├── ConfigError         a parameter, option, configuration file or setting is wrong
├── MaterializerError   a value can't be stored, or not loaded as asked
│   └── Damaged         stored bytes are missing or not what they were
├── RunFailed           a run ended because a step failed; `.run` is its record
├── StepFailed          a step that a dynamic pipeline called failed; the pipeline may go on
├── RunCancelled        a run was stopped by a person or a signal
├── CodeChanged         the code that was loaded is not the code that was compiled
├── NotFound            nothing is called like that
├── Ambiguous           several things are called like that
├── Conflict            somebody else changed or took it meanwhile
│   ├── Fenced          another driver holds the run
│   └── Diverged        two histories of one run disagree
├── Forbidden           not allowed
├── Unreachable         a store, server or folder can't be reached or written
└── StoreTooNew         the store was written by a newer Cupola

A message has up to three parts: what happened (with the values), where, and what to do now.
"""

from __future__ import annotations

from typing import Any


class CupolaError(Exception):
    """The root of all errors that Cupola raises on purpose.

    Args:
        what: What happened, with the values that caused it.
        where: Step, file and line, or component.
        fix: What to do now, as a command where there is one.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        head = f"{self.what} ({self.where})" if self.where else self.what
        return f"{head}\n{self.fix}" if self.fix else head

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.__dict__)


def _rebuild(cls: type[CupolaError], state: dict[str, Any]) -> CupolaError:
    error = cls.__new__(cls)
    Exception.__init__(error, state["what"])
    error.__dict__.update(state)
    return error


class CompileError(CupolaError):
    """The wiring, the types or the names of a pipeline are wrong."""

    exit_code = 2


class RunAtImport(CompileError):
    """A run was started while its file was only being imported."""


class ConfigError(CupolaError):
    """A parameter, option, configuration file or setting is wrong."""

    exit_code = 2


class MaterializerError(CupolaError):
    """A value can't be stored, or can't be loaded as asked."""


class Damaged(MaterializerError):
    """Stored bytes are missing or are not what they were when written."""


class RunFailed(CupolaError):
    """A run ended because a step failed. `.run` is its record."""

    run: Any = None


class StepFailed(CupolaError):
    """A step that a dynamic pipeline called failed. `.step` is its invocation name, the cause what it raised."""

    step: str = ""


class RunCancelled(CupolaError):
    """A run was stopped by a person or a signal. `.run` is its record."""

    exit_code = 130
    run: Any = None


class CodeChanged(CupolaError):
    """The code that was loaded is not the code that was compiled."""


class NotFound(CupolaError):
    """Nothing is called like that."""

    exit_code = 2


class Ambiguous(CupolaError):
    """Several things are called like that; the message lists them."""

    exit_code = 2


class Conflict(CupolaError):
    """Somebody else changed or took it meanwhile."""


class Fenced(Conflict):
    """Another driver holds the run; what this one would write is refused."""


class Diverged(Conflict):
    """Two histories of one run disagree; neither is overwritten."""


class Forbidden(CupolaError):
    """Not allowed."""

    exit_code = 3


class Unreachable(CupolaError):
    """A store, server or folder can't be reached or can't be written."""

    exit_code = 3


class StoreTooNew(CupolaError):
    """The store was written by a newer Cupola; nothing of it was touched."""

    exit_code = 3
