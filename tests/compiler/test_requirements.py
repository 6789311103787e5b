"""Requirements as lists and files: what is read of them, and what the snapshot and its records show."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cupola import ConfigError, pipeline, step
from cupola.compiler.requirements import own_file, read_requirements
from cupola.snapshot import Snapshot


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_txt", ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.mark.feature("ENG-10")
def test_a_list_is_taken_as_it_is(tmp_path: Path) -> None:
    said = ["pandas==1.5.3", "numpy<2 ; python_version < '3.12'", "uvicorn[standard]>=0.30"]
    assert read_requirements(said, tmp_path).lines == tuple(said)


@pytest.mark.feature("ENG-10")
def test_a_file_is_read_with_what_it_includes(tmp_path: Path) -> None:
    write(
        tmp_path,
        steps__train__requirements_txt="\ufeff# a comment\r\npandas==1.5.3 \\\r\n    --hash=sha256:aa \\\r\n"
        "    --hash=sha256:bb  # why\r\n-r more.txt\r\n-c ../pins.txt\r\n",
        steps__train__more_txt="scipy\n\n--requirement=../deep.txt\n",
        steps__deep_txt="-r train/requirements.txt\nattrs # loops are no harm\n",
        steps__pins_txt="numpy<2\n-r deeper.txt\n",
        steps__deeper_txt="scipy<1.15\n",
    )
    found = read_requirements(["-r steps/train/requirements.txt", "zict"], tmp_path)
    assert [" ".join(line.split()) for line in found.lines] == [
        "pandas==1.5.3 --hash=sha256:aa --hash=sha256:bb", "scipy", "attrs", "zict",
    ]  # fmt: skip
    assert found.constraints == ("numpy<2", "scipy<1.15")
    assert found.hashes == {"pandas": ("sha256:aa", "sha256:bb")}
    assert [os.path.relpath(path, tmp_path) for path in found.files] == [
        "steps/train/requirements.txt", "steps/train/more.txt", "steps/deep.txt", "steps/pins.txt", "steps/deeper.txt",
    ]  # fmt: skip


@pytest.mark.feature("ENG-10")
def test_local_paths_start_at_the_file_and_are_written_relative_to_the_root(tmp_path: Path) -> None:
    root, outside = tmp_path / "project", tmp_path / "elsewhere-1.0.tar.gz"
    write(root, lib__pyproject_toml="", wheels__a_b="", **{"wheels__my wheel-1.0-py3-none-any.whl": ""})
    outside.write_text("")
    write(
        root,
        steps__requirements_txt="../wheels/my wheel-1.0-py3-none-any.whl\n-e ../lib[extra] ; python_version > '3'\n"
        f"named[x] @ ../lib\nother @ {(root / 'wheels' / 'my wheel-1.0-py3-none-any.whl').as_uri()}\n{outside}\n"
        "--find-links ../wheels\n-f https://example.org/links\n--index-url ../wheels\n",
    )
    found = read_requirements(["-r steps/requirements.txt", "./lib", "."], root)
    assert found.lines == (
        "./wheels/my wheel-1.0-py3-none-any.whl", "-e ./lib[extra] ; python_version > '3'", "named[x] @ ./lib",
        "other @ ./wheels/my wheel-1.0-py3-none-any.whl", str(outside), "-f ./wheels", "-f https://example.org/links",
        "--index-url ./wheels", "./lib", ".",
    )  # fmt: skip
    assert found.local == (
        str(root / "wheels" / "my wheel-1.0-py3-none-any.whl"), str(root / "lib"), str(outside), str(root),
    )  # fmt: skip


@pytest.mark.feature("ENG-10")
def test_credentials_become_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHO", "robot")
    monkeypatch.setenv("HOW", "t0ken")
    found = read_requirements(
        [
            "--index-url https://me:s3cret@one.example/simple",
            "--extra-index-url https://${WHO}:${HOW}@two.example/simple",
            "a @ https://me:s3cret@three.example/a.whl",
            "b @ https://four.example/b.whl?token=t0p",
            "c @ git+https://${HOW}@five.example/c.git@main",
            "d @ git+ssh://git@six.example/d.git",
            "--extra-index-url https://${WHO}:literal@seven.example/simple",
        ],
        tmp_path,
    )
    assert found.lines == (
        "--index-url https://${CUPOLA_CREDENTIAL_1}@one.example/simple",
        "--extra-index-url https://${WHO}:${HOW}@two.example/simple",
        "a @ https://${CUPOLA_CREDENTIAL_1}@three.example/a.whl",
        "b @ https://four.example/b.whl?token=${CUPOLA_CREDENTIAL_2}",
        "c @ git+https://five.example/c.git@main",
        "d @ git+ssh://git@six.example/d.git",
        "--extra-index-url https://${CUPOLA_CREDENTIAL_3}@seven.example/simple",
    )
    assert found.credentials == {
        "CUPOLA_CREDENTIAL_1": "me:s3cret", "CUPOLA_CREDENTIAL_2": "t0p", "CUPOLA_CREDENTIAL_3": "robot:literal",
    }  # fmt: skip
    assert found.logins == {"https://five.example/c.git": "t0ken"}


@pytest.mark.feature("ENG-10", "CORE-12")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-r nowhere.txt", ("'nowhere.txt'", "No such file", "requirements=['pandas']")),
        ("-r latin.txt", ("'latin.txt'", "no UTF-8")),
        ("-r outer.txt", ("'inner.txt'", "outer.txt:2", "looked for at")),
        ("./gone-1.0-py3-none-any.whl", ("'./gone-1.0-py3-none-any.whl'", "no file and no folder")),
        ("-e ../lib", ("'../lib'", "no file and no folder")),
        ("x @ git+https://${NOT_SET_HERE}@h.example/x", ("NOT_SET_HERE", "export NOT_SET_HERE")),
    ],
)
def test_what_is_missing_is_named_with_its_place(tmp_path: Path, line: str, words: tuple[str, ...]) -> None:
    write(tmp_path, outer_txt="\n-r inner.txt\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ConfigError) as caught:
        read_requirements([line], tmp_path)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def identity(x: int = 1) -> int:
    return x


def compiled(**options: object) -> Snapshot:
    marked = step(identity, **options)

    @pipeline
    def p() -> None:
        marked()

    return p.compile()


@pytest.mark.feature("ENG-10")
def test_a_file_stays_a_line_that_includes_it(tmp_path: Path) -> None:
    (tmp_path / "reqs.txt").write_text("pandas\n")
    [options] = compiled(requirements=tmp_path / "reqs.txt").options
    assert options.requirements == (f"-r {tmp_path / 'reqs.txt'}",)
    [options] = compiled(requirements=["pandas", "numpy"]).options
    assert options.requirements == ("pandas", "numpy")
    [options] = compiled(requirements=[]).options
    assert options.requirements == ()


@pytest.mark.feature("ENG-10")
def test_a_missing_file_is_named_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match=r"'pandas' can't be read") as caught:
        compiled(requirements="pandas")
    assert "requirements=['pandas']" in caught.value.fix


@pytest.mark.feature("ENG-10")
def test_credentials_in_code_are_in_no_snapshot_and_still_known_here(tmp_path: Path) -> None:
    said = ["--index-url https://me:s3cret@one.example/simple", "pandas"]
    snapshot = compiled(requirements=said)
    assert b"s3cret" not in snapshot.to_bytes()
    lines = snapshot.options[0].requirements
    assert lines == ("--index-url https://****@one.example/simple", "pandas")
    assert read_requirements(lines, tmp_path).credentials == {"CUPOLA_CREDENTIAL_1": "me:s3cret"}
    with pytest.raises(ConfigError, match="written in code") as caught:
        read_requirements(("--index-url https://****@other.example/simple",), tmp_path)
    assert "netrc" in caught.value.fix


@pytest.mark.feature("ENG-10")
def test_references_to_variables_stay_in_the_snapshot() -> None:
    [options] = compiled(requirements=["--index-url https://${A}:${B}@one.example/simple", "pandas"]).options
    assert options.requirements[0] == "--index-url https://${A}:${B}@one.example/simple"


PROGRAM = """
from cupola import pipeline, step
from steps.train.fit import fit
from steps.plain import plain

@step
def here() -> int:
    return 1

@pipeline
def p():
    fit(); plain(); here()

if __name__ == "__main__":
    snapshot = p.compile()
    for spec in snapshot.steps:
        print(spec.name, snapshot.options[spec.options].requirements)
"""
STEP = "from cupola import step\n@step\ndef {name}() -> int:\n    return 1\n"


@pytest.mark.feature("ENG-10")
def test_requirements_beside_a_step_are_its_own_and_those_of_the_root_nobodys(tmp_path: Path, run_program) -> None:
    write(
        tmp_path,
        requirements_txt="cupola\n",
        steps__train__requirements_txt="pandas==1.5.3\n",
        **{
            "run.py": PROGRAM,
            "steps__train__fit.py": STEP.format(name="fit"),
            "steps__plain.py": STEP.format(name="plain"),
        },
    )
    done = run_program(sys.executable, "run.py")
    assert done.stdout.splitlines() == ["fit ('-r steps/train/requirements.txt',)", "plain ()", "here ()"], done.stderr
    assert own_file(str(tmp_path / "steps" / "train" / "fit.py"), tmp_path) == "-r steps/train/requirements.txt"
