"""The verb `delete` of every resource: says what goes and asks before it does."""

from __future__ import annotations

from collections.abc import Sequence

from cupola.cli.arguments import Parser
from cupola.cli.output import confirm, note, print_json
from cupola.client.connect import open_store
from cupola.client.describe import version_name
from cupola.entities.artifact import VersionRecord
from cupola.errors import ConfigError
from cupola.ids import new_id
from cupola.store import OWNER, Delete


def delete_one(kind: str, command: str, given: Sequence[str], what: str) -> int:
    """Delete what a ref names, after asking.

    Args:
        kind: Name of the kind.
        command: The words behind `cupola`.
        given: The arguments.
        what: What goes with it, for the question.
    """
    parser = Parser(command, f"Delete a {kind}, and with it {what}.")
    parser.option("ref", metavar="REF", help="an id, a unique beginning of one, or a name")
    parser.option("--yes", action="store_true", help="don't ask")
    parser.option("--json", action="store_true", help="print what was deleted as a JSON object")
    chosen = parser.read(given)
    return delete_record(kind, chosen.ref, what, yes=chosen.yes, json=chosen.json)


def delete_record(kind: str, ref: str, what: str, *, yes: bool, json: bool) -> int:
    """Delete what a ref names; see `delete_one`."""
    store = open_store()
    record = store.get(kind, ref, who=OWNER)
    name = version_name(record) if isinstance(record, VersionRecord) else record.name
    if not confirm(f"delete {kind} {name}, and {what}?", yes=yes):
        raise ConfigError(f"{kind} {name} was not deleted", fix="say --yes to delete it without being asked")
    store.write([Delete(kind, record.id)], key=new_id(), who=OWNER)
    if json:
        print_json({"deleted": record.id, "kind": kind, "name": name})
    else:
        note(f"deleted {kind} {name}")
    return 0
