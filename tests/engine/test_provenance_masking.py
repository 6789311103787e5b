"""Secrets in command lines, addresses and variables."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola import Client
from cupola.engine.provenance.masking import MASK, is_secret_name, mask_command, mask_text, mask_url, mask_variable

pytestmark = pytest.mark.feature("ENG-11")
WORD = "Tr0ub4dor"


@pytest.mark.parametrize(
    "name",
    ["password", "--db-password", "DB_PASSWORD", "pgpassword", "HF_TOKEN", "apiKey", "api_key", "AWS_SECRET_ACCESS_KEY",
     "client_secret", "SECRET_KEY_BASE", "accessToken", "GITHUB_TOKEN_2", "MYSQL_PWD", "private-key", "credentials",
     "AZURE_STORAGE_CONNECTION_STRING", "db.password", "SSHPASS", "auth"],
)  # fmt: skip
def test_names_of_secrets_are_known(name):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["max_tokens", "token_count", "tokenizer", "eos_token", "pad-token", "key", "primary_key", "keyboard", "author",
     "compass", "rate", "secretary", "passes", "", "--", "7", "n_passes", "max_token_length"],
)  # fmt: skip
def test_names_that_only_resemble_them_are_not(name):
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "words",
    [["--password", WORD], [f"--password={WORD}"], ["--param", f"db.password={WORD}"], [f"--env=API_KEY={WORD}"],
     ["-e", f"TOKEN={WORD}"], [f"postgresql://user:{WORD}@host/db"], [f"https://{WORD}@github.com/a/b"],
     [f"https://user:with@{WORD}@host"], [f"https://host/x?a=1&api_key={WORD}&b=2"],
     ["--json", f'{{"token": "{WORD}"}}'],
     ["-H", f"Authorization: Basic {WORD}{WORD}"], [f"--url=https://u:{WORD}@h"], [f"Bearer {WORD}{WORD}"],
     ["--token", "-" + WORD], ["ghp_" + WORD * 4], [f"x sk-{WORD * 4} y"], [f"dsn=host=h password={WORD}"]],
)  # fmt: skip
def test_no_part_of_a_secret_is_left_in_a_command_line(words):
    masked = mask_command(["train.py", *words, "--rate", "0.1"])
    assert WORD not in masked
    assert MASK in masked
    assert masked.startswith("train.py ")
    assert masked.endswith(" --rate 0.1")


def test_a_command_line_without_secrets_is_read_back_by_a_shell():
    words = ["run.py", "--name", "it's", "a b", "--max-tokens=5", "git@github.com:a/b.git", "", "ssh://git@host/x", "ü"]
    assert shlex.split(mask_command(words)) == words


def test_an_option_after_a_secret_option_without_value_stays():
    assert mask_command(["x", "--password", "--verbose", "1"]) == "x --password --verbose 1"


@pytest.mark.parametrize(
    ("url", "masked"),
    [("https://user:pw@host/x.git", f"https://{MASK}@host/x.git"), ("https://host/x@1.git", "https://host/x@1.git"),
     ("ssh://me@host/x", "ssh://me@host/x"), ("git@host:x/y.git", "git@host:x/y.git"),
     ("https://git@host/x", "https://git@host/x"), ("/a/path", "/a/path")],
)  # fmt: skip
def test_addresses_keep_all_but_credentials(url, masked):
    assert mask_url(url) == masked


def test_variables_are_masked_by_name_and_by_what_they_hold():
    assert mask_variable("DB_PASSWORD", WORD) == MASK
    assert mask_variable("DB_PASSWORD", "") == ""
    assert mask_variable("DATABASE_URL", f"postgres://a:{WORD}@h") == f"postgres://{MASK}@h"
    assert mask_variable("OMP_NUM_THREADS", "4") == "4"


@given(st.text())
def test_masking_twice_is_masking_once(text):
    assert mask_text(mask_text(text)) == mask_text(text)


def test_the_command_of_a_run_is_recorded_without_its_secrets(tmp_path, run_python):
    (tmp_path / "go.py").write_text(
        "from cupola import pipeline, step\n@step\ndef f() -> int: return 1\n@pipeline\ndef p(): f()\n"
        "if __name__ == '__main__': p()\n"
    )
    done = run_python("go.py", "--rate", "0.1", "--api-key", WORD)
    assert done.returncode == 0, done.stderr
    assert Client().runs.list()[0].facts["command"] == f"go.py --rate 0.1 --api-key {MASK}"
