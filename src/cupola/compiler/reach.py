"""What a function's result depends on by its code: every definition of the project that it reaches by name.

Names are resolved in the source first and in the loaded modules second, so that values count as they are, and code as
it was loaded. What can't be resolved widens to the whole file; what can't be read makes the step uncacheable, with the
reason; a part is never left out silently. docs/caching.md says what counts, what doesn't, and what can't be seen.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from cupola import digest
from cupola.compiler.live import follow
from cupola.compiler.resolve import resolve_all
from cupola.compiler.source import file_of, root_of, underlying
from cupola.compiler.walk import Found, Walk
from cupola.snapshot import CodePart


class CodeTree(msgspec.Struct, frozen=True):
    """What a function reaches.

    Attributes:
        parts: The parts, in an order that only they decide.
        places: `path:line` of each part, by its name, the path relative to the source root.
        uncacheable: Why the step can't be cached; empty if it can.
    """

    parts: tuple[CodePart, ...]
    places: dict[str, str]
    uncacheable: str


def code_parts(function: Any) -> CodeTree:
    """Return all that a function's result depends on by its code.

    Called once per step function when a pipeline is compiled, and by a worker after import. Files are parsed and
    definitions described once per process; constants, defaults and closures are read anew in each call.

    Raises:
        CodeChanged: A function that was loaded is not what its file says.
        CompileError: A file was imported under two names.
    """
    namespace: dict[str, Any] = getattr(underlying(function), "__globals__", {})
    walk = Walk(root_of(file_of(namespace) or None), underlying(function))
    follow(walk, function)
    resolve_all(walk)
    version = f"{sys.version_info.major}.{sys.version_info.minor}" + (" -O" if sys.flags.optimize else "")
    walk.found.append(Found("python", "python", version.encode(), version, ""))
    # The same definition may be reached as a decorator and otherwise; it is one part.
    decorators = {found.name for found in walk.found if found.kind == "decorator"}
    parts: dict[CodePart, None] = {}
    places: dict[str, str] = {}
    nodes = {found.node for found in walk.found}
    for found in walk.found:
        if not nodes.isdisjoint(found.around):
            continue  # what it stands in says it already
        kind = "decorator" if found.name in decorators and found.kind == "function" else found.kind
        part = CodePart(kind, found.name, digest.code_part(kind, found.name, found.content), found.text)
        parts[part] = None
        if found.place:
            places.setdefault(found.name, found.place)
    ordered = sorted(parts, key=lambda part: (part.kind, part.name, part.digest))
    return CodeTree(tuple(ordered), places, walk.reason)
