"""Which code a run ran, from its facts."""

from __future__ import annotations

import pytest

from cupola.client.code import Code, plain_code, read_code

pytestmark = pytest.mark.feature("ENG-11")


def test_what_is_known_is_said_and_the_rest_is_none_with_its_reason():
    code = read_code({"commit": "0123456789abcdef", "branch": "main", "dirty": "yes", "unknown.remote": "it has none"})
    assert (code.commit, code.branch, code.dirty) == ("0123456789abcdef", "main", True)
    assert (code.remote, code.path, code.source) == (None, None, None)
    assert code.unknown == {"remote": "it has none"}
    assert str(code) == "0123456789ab on main, dirty"


def test_of_a_run_that_has_only_just_begun_nothing_is_known_yet():
    code = read_code({"host": "h"})
    assert code.commit is None
    assert set(code.unknown) == {"commit", "source"}
    assert str(code).startswith("commit unknown: it isn't found out before")


def test_what_a_resumed_run_found_out_is_not_unknown_any_more():
    code = read_code({"unknown.dirty": "git is not installed", "dirty": "no", "commit": "abc", "source": "dir:1"})
    assert (code.dirty, code.unknown) == (False, {})
    assert str(code) == "abc, clean"


def test_plain_data_has_each_part():
    assert list(plain_code(Code())) == ["commit", "branch", "remote", "dirty", "path", "source", "unknown"]
