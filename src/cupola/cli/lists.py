"""The verb `list` of every resource: what its table shows, its filters, and that it says when it was cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from cupola import client
from cupola.cli.arguments import Namespace, Parser
from cupola.cli.output import note, print_json, print_table
from cupola.client.connect import open_store
from cupola.client.search import search
from cupola.entities.run import RunStatus, StepStatus
from cupola.errors import ConfigError
from cupola.ids import now
from cupola.kinds import find_kind
from cupola.suggest import nearest
from cupola.text import age, count, size

LIMIT = 20


class Listing(msgspec.Struct, frozen=True):
    """How the command line lists a kind.

    Attributes:
        kind: Name of the kind.
        noun: What one is called.
        headers, row: The columns of the table.
        filters: Names of the options that filter, beyond `--since` and `--until`.
        rights: Columns of numbers.
        states: Words that `--status` may have.
    """

    kind: str
    noun: str
    headers: tuple[str, ...]
    row: Callable[[Any], tuple[str, ...]]
    filters: tuple[str, ...]
    rights: tuple[int, ...] = ()
    states: tuple[str, ...] = ()


def _ago(at: float | None) -> str:
    return "" if at is None else age(now() - at)


def _steps(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {word}" for word, number in counts.items() if number)


RUNS = Listing(
    "run",
    "run",
    ("name", "status", "started", "took", "steps", "id"),
    lambda r: (r.name, str(r.status), _ago(r.started_at), client.describe.took(r), _steps(r.steps), r.id),
    ("status", "pipeline", "name", "tag", "metadata"),
    (3,),
    tuple(map(str, RunStatus)),
)
STEPS = Listing(
    "step",
    "step",
    ("step", "status", "started", "took", "pipeline", "run"),
    lambda s: (s.name, str(s.status), _ago(s.started_at), client.describe.took(s), s.pipeline, s.run),
    ("status", "pipeline", "run", "name", "tag", "metadata"),
    (3,),
    tuple(map(str, StepStatus)),
)
PIPELINES = Listing(
    "pipeline",
    "pipeline",
    ("name", "runs", "first run", "function", "newest run"),
    lambda p: (p.name, str(p.runs), _ago(p.created_at), p.source, p.last_run),
    ("name",),
    (1,),
)
ARTIFACTS = Listing(
    "artifact",
    "artifact",
    ("name", "versions", "newest", "first made"),
    lambda a: (a.name, str(a.versions), a.latest, _ago(a.created_at)),
    ("name",),
    (1,),
)
VERSIONS = Listing(
    "version",
    "version",
    ("artifact", "type", "size", "made", "run"),
    lambda v: (
        client.describe.version_name(v),
        v.manifest.type,
        size(v.manifest.size_bytes),
        _ago(v.created_at),
        v.run,
    ),
    ("artifact", "run", "kind", "digest", "tag", "metadata"),
    (2,),
)
HELP = {
    "status": "only in this state; several with commas",
    "pipeline": "only of this pipeline",
    "name": "only with this name",
    "run": "only of this run",
    "artifact": "only of this artifact",
    "kind": "only of this kind, such as model",
    "digest": "only with this digest",
    "tag": "only with this tag; may be given again",
    "metadata": "only where this holds, such as 'accuracy>0.9'; may be given again",
}


def add_list_options(parser: Parser, listing: Listing) -> None:
    """Declare the options of a list."""
    for name in listing.filters:
        if name in ("tag", "metadata"):
            parser.option(f"--{name}", action="append", metavar="TAG" if name == "tag" else "TEST", help=HELP[name])
        else:
            parser.option(f"--{name}", metavar=name.upper(), help=HELP[name])
    verb = "started" if listing.kind in ("run", "step") else "made"
    parser.option("--since", metavar="WHEN", help=f"only {verb} since then: a date, or how long ago (90min, 3h, 2d)")
    parser.option("--until", metavar="WHEN", help=f"only {verb} before then")
    sorts = ", ".join(sort.name for sort in find_kind(listing.kind).sorts)
    parser.option("--sort", default="", metavar="ORDER", help=f"{sorts}; with - before it the other way round")
    parser.option("--limit", type=int, default=LIMIT, metavar="N", help=f"at most so many ({LIMIT} unless said)")
    parser.option("--all", action="store_true", help="all of them")
    parser.option("--json", action="store_true", help="print a JSON array")


def print_list(listing: Listing, chosen: Namespace, **fixed: Any) -> int:
    """Print what matches the options; `fixed` are filters that hold besides them."""
    filters = {name: getattr(chosen, name) for name in (*listing.filters, "since", "until") if hasattr(chosen, name)}
    if listing.states and filters.get("status"):
        filters["status"] = read_states(filters["status"], listing.states)
    filters.update(fixed)
    limit = None if chosen.all else chosen.limit
    # A leading minus looks like an option to a shell user, so `--sort=-started` is written with the equals sign.
    found, more = search(open_store(), listing.kind, filters, sort=chosen.sort, limit=limit)
    if chosen.json:
        print_json([client.plain.plain_record(listing.kind, record) for record in found])
    elif found:
        print_table(client.page.Table(listing.headers, tuple(listing.row(record) for record in found), listing.rights))
    else:
        note(f"no {listing.noun}s" + (" match" if any(filters.values()) else " yet"))
    if more:
        note(f"the newest {count(len(found), listing.noun)}; there are more: --all, or --limit N")
    return 0


def read_states(text: str, known: Sequence[str]) -> list[str]:
    """Return the states that a text such as `failed,lost` names.

    Raises:
        ConfigError: One isn't known; the message has the nearest.
    """
    states = [word.strip() for word in text.split(",")]
    for state in states:
        if state not in known:
            close = nearest(state, known)
            fix = f"did you mean {close!r}?" if close else f"there are: {', '.join(known)}"
            raise ConfigError(f"--status: there is no state {state!r}", fix=fix)
    return states
