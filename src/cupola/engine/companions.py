"""What has to be resolved along with some libraries although they don't say so themselves.

Cupola needs pyarrow to hand frames on, and some released versions accept others that they were not built for: without
this, `requirements=["pandas==1.5.3"]` installs and can't be imported.
"""

from __future__ import annotations

from cupola.compiler.requirements import distribution_of

# Where the versions of all of the first are below those given (None: any), the second is asked for.
_BESIDE = (
    ({"pandas": None}, "pyarrow"),
    # Built for NumPy 1 only, and without an upper bound.
    ({"pandas": (2, 2, 2)}, "numpy<2"),
    # Later ones refuse NumPy 1 when they are imported.
    ({"pandas": None, "numpy": (2,)}, "pyarrow<26"),
)


def find_missing(lock: str, asked: frozenset[str]) -> list[str]:
    """Return the requirements that a lock lacks.

    Args:
        lock: What was resolved, `name==version` at the beginning of each entry.
        asked: Names of the distributions that the user asks for, which are left as they are.
    """
    versions = _pins(lock)
    missing: list[str] = []
    for libraries, line in _BESIDE:
        name, _, limit = line.partition("<")
        applies = all(
            library in versions and (below is None or versions[library] < below) for library, below in libraries.items()
        )
        fits = name in versions and not (limit and versions[name] >= _numbers(limit))
        if applies and not fits and name not in asked:
            missing.append(line)
    return missing


def _pins(lock: str) -> dict[str, tuple[int, ...]]:
    heads = (line.split()[0] for line in lock.splitlines() if "==" in line and not line.startswith((" ", "#")))
    return {distribution_of(head): _numbers(head.partition("==")[2]) for head in heads}


def _numbers(version: str) -> tuple[int, ...]:
    numbers: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
