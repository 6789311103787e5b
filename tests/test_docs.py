"""What README and docs show works: their snippets run in order, each document in a folder and a store of its own.

Blocks of python are scripts; one that begins with `# name.py` is written to that file instead. Blocks of console run
what follows `$ `, and the words of the output they show must be in the real one. `<!-- not run: why -->` above a block
leaves it out, `<!-- exit: 1 -->` says how its last command ends.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?:<!-- (?P<mark>[^>]*?) -->\n+)?^```(?P<language>\w+)[^\n]*\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
COMMAND = re.compile(r"^\$ (.*(?:\\\n.*)*)$", re.MULTILINE)
FILE = re.compile(r"# (?P<name>[\w./-]+\.(?:py|yaml|csv))\n")
# Times, ids and sizes differ from run to run; words don't.
WORD = re.compile(r"[A-Za-z][A-Za-z_.]{2,}")
VARIES = re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{4,}\b|[\w./-]*/[\w./-]+")


class Block(NamedTuple):
    language: str
    body: str
    mark: str
    line: int


def blocks_of(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    return [
        Block(found["language"], found["body"], found["mark"] or "", text.count("\n", 0, found.start("body")))
        for found in BLOCK.finditer(text)
    ]


def run(command: list[str], folder: Path, exit_code: int, block: Block) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == exit_code, f"line {block.line}: {command[-1]!r} gave {done.returncode}\n{done.stdout}"
    return done.stdout


def run_console(block: Block, folder: Path, exit_code: int) -> None:
    output = ""
    commands = COMMAND.findall(block.body)
    for number, command in enumerate(commands):
        output += run(["bash", "-c", command], folder, exit_code if number == len(commands) - 1 else 0, block)
    words = set(WORD.findall(VARIES.sub("", COMMAND.sub("", block.body))))
    missing = words - set(WORD.findall(output))
    assert not missing, f"line {block.line}: the document shows {sorted(missing)}, the program wrote\n{output}"


@pytest.mark.feature("CORE-11")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_the_documents_show_works(document, tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    for block in blocks_of(document):
        if block.mark.startswith("not run"):
            continue
        exit_code = int(block.mark.removeprefix("exit: ")) if block.mark.startswith("exit: ") else 0
        if block.language == "console":
            run_console(block, folder, exit_code)
        elif named := FILE.match(block.body):
            file = folder / named["name"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.body, encoding="utf-8")
        elif block.language == "python":
            script = folder / f"snippet_{block.line}.py"
            script.write_text(block.body, encoding="utf-8")
            run([sys.executable, script.name], folder, exit_code, block)


@pytest.mark.feature("CORE-11")
def test_links_inside_the_documents_lead_somewhere():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
