"""Credentials are taken out of texts, wherever they stand, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.credentials import MASK, mask_credentials


@pytest.mark.feature("ENG-10")
@pytest.mark.parametrize(
    "text",
    [
        "https://me:s3cret@pypi.example.org/simple", "https://s3cret@pypi.example.org/simple",
        "a https://a:s3cret@x/y,https://b:s3cret@z/w b", "git+https://oauth2:s3cret@git.example.org/r.git@main#egg=r",
        "https://me:p@s3cret@host/simple", "ssh://git:s3cret@host/x", "https://host/x.whl?token=s3cret&a=1",
        "https://host/x?a=1&X-Amz-Signature=s3cret", "https://host/x?api_key=s3cret#frag", "HTTPS://U:s3cret@HOST",
        "Authorization: Basic s3cret", '"authorization": "Bearer s3cret"', "UV_INDEX_URL='http://u:s3cret@h/'",
    ],
)  # fmt: skip
def test_credentials_are_masked(text: str) -> None:
    masked = mask_credentials(text)
    assert "s3cret" not in masked
    assert MASK in masked
    assert mask_credentials(masked) == masked


@pytest.mark.feature("ENG-10")
@pytest.mark.parametrize(
    "text",
    [
        "https://pypi.example.org/simple", "git+ssh://git@github.com/a/b.git@main", "me@example.org",
        "name @ https://host/x-1.0-py3-none-any.whl#sha256=abc", "pandas==2.2.3 ; python_version > '3'",
        "https://host/pkg@1.0/x", "see https://a/b and mail me@x.org",
    ],
)  # fmt: skip
def test_everything_else_stays(text: str) -> None:
    assert mask_credentials(text) == text


@pytest.mark.feature("ENG-10")
@given(
    st.text(
        alphabet=st.characters(codec="ascii", exclude_characters="/?#'\"<>@: \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85"),
        min_size=9,
    )
)
def test_no_password_survives_whatever_is_in_it(password: str) -> None:
    masked = mask_credentials(f"before https://user:{password}@host.example/simple after")
    assert masked == f"before https://{MASK}@host.example/simple after"
