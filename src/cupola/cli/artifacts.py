"""`cupola artifacts`: what runs have made."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cupola import cli
from cupola.cli.arguments import Parser, choose
from cupola.cli.lists import ARTIFACTS, VERSIONS, add_list_options, print_list
from cupola.cli.output import note, print_json, print_page

REF = "NAME:VERSION, or NAME for the newest"


def list_artifacts(given: Sequence[str]) -> int:
    """List artifacts, or versions of them."""
    parser = Parser(
        "artifacts list",
        "List artifacts, newest first; with --versions, --artifact, --run and the like their versions.",
    )
    add_list_options(parser, VERSIONS)
    parser.option("--name", metavar="NAME", help="only with this name")
    parser.option("--versions", action="store_true", help="list versions, not only names")
    chosen = parser.read(given)
    if chosen.run:
        chosen.run = cli.show.find_run(chosen.run).id
    if chosen.versions or any(getattr(chosen, name) for name in VERSIONS.filters):
        if chosen.name:
            chosen.artifact = chosen.name
        return print_list(VERSIONS, chosen)
    return print_list(ARTIFACTS, chosen)


def show_artifact(given: Sequence[str]) -> int:
    """Show an artifact version."""
    from cupola.client.client import Client

    parser = Parser("artifacts show", "Show a version of an artifact: what it is, who made it, a preview.")
    parser.option("ref", metavar="REF", help=REF)
    parser.option("--lineage", action="store_true", help="show the steps and versions that it was made from")
    parser.option("--json", action="store_true", help="print a JSON object")
    chosen = parser.read(given)
    version = Client().artifacts.get(chosen.ref)
    if not chosen.lineage:
        print_json(cli.show.output_json(version)) if chosen.json else print_page(version.page())
        return 0
    lineage = version.lineage()
    if chosen.json:
        steps = [{"run": s.run, "step": s.step, "made": s.made, "read": s.read} for s in lineage.steps]
        print_json({**cli.show.output_json(version), "lineage": steps})
    else:
        print(lineage)
    return 0


def download_artifact(given: Sequence[str]) -> int:
    """Copy an artifact version out of the store."""
    from cupola.client.client import Client

    parser = Parser("artifacts download", "Copy what is stored of an artifact version to a file or folder.")
    parser.option("ref", metavar="REF", help=REF)
    parser.option(
        "path", metavar="PATH", nargs="?", help="where to; in this folder under the artifact's name if left out"
    )
    parser.option("--json", action="store_true", help="print a JSON object")
    chosen = parser.read(given)
    version = Client().artifacts.get(chosen.ref)
    target = Path(chosen.path) if chosen.path else Path(version.file_name)
    if chosen.path and (chosen.path.endswith(os.sep) or target.is_dir()):
        target = target / version.file_name
    written = version.download(target)
    if chosen.json:
        print_json({"path": os.path.abspath(written), "ref": version.ref, "size_bytes": version.size})
    else:
        note(f"{version.ref} is in {written}")
    return 0


def delete_artifact(given: Sequence[str]) -> int:
    """Delete a version of an artifact, or the artifact with all of them."""
    from cupola.client.client import Client

    parser = Parser(
        "artifacts delete", "Delete a version of an artifact (NAME:VERSION), or by its bare name all of them."
    )
    parser.option("ref", metavar="REF", help="NAME:VERSION, or NAME")
    parser.option("--yes", action="store_true", help="don't ask")
    parser.option("--json", action="store_true", help="print what was deleted as a JSON object")
    chosen = parser.read(given)
    if Client().artifacts.list(name=chosen.ref, limit=1):
        return cli.delete.delete_record("artifact", chosen.ref, "all its versions", yes=chosen.yes, json=chosen.json)
    return cli.delete.delete_record("version", chosen.ref, "its value", yes=chosen.yes, json=chosen.json)


def artifacts(given: Sequence[str]) -> int:
    """Carry out a verb of `cupola artifacts`."""
    verbs = {
        "list": (list_artifacts, "list artifacts or their versions"),
        "show": (show_artifact, "show a version: what it is, who made it, a preview, its lineage"),
        "download": (download_artifact, "copy what is stored of a version to a file or folder"),
        "delete": (delete_artifact, "delete a version, or an artifact with all versions"),
    }
    return choose("artifacts", verbs, given)
