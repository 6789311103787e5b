"""Masking secrets in what is recorded of a program's surroundings: command lines, addresses, variables.

What looks like a secret is replaced whole: no part of it is left for identification. A harmless value that is masked
costs little; names decide, since values can't be told from others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MASK = "***"

_SECRET_ENDS = ("password", "passwd", "passphrase", "apikey", "token", "secret", "credential", "credentials")
_SECRET_LAST = frozenset({"pass", "pwd", "auth", "authorization", "bearer", "cookie", "pat", "sshpass", "dsn"})
_SECRET_ANYWHERE = frozenset({"secret", "secrets", "password", "passwd", "passphrase"})
_SECRET_PAIRS = frozenset(
    {*((kind, "key") for kind in ("api", "access", "private", "account", "secret", "signing", "encryption", "ssh")),
     ("connection", "string")}
)  # fmt: skip
# Of texts and their parts, as people who train language models say.
_TOKENS_OF_TEXT = frozenset(
    {"eos", "bos", "pad", "unk", "mask", "sep", "cls", "eot", "stop", "start", "end", "special"}
)

# Compiled at first use, 3 ms that most runs don't need.
_WORDS = r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+"
_USER_IN_URL = r"(?i)\b([a-z][a-z0-9+.-]*://)([^/\s@'\"]*(?:@[^/\s@'\"]*)*)@"
_QUERY = r"([?&]|\b)([\w.-]+)=([^&\s#'\"]+)"
_MEMBER = r"([\"'])([\w.-]+)\1(\s*:\s*)([\"'])(?:\\.|(?!\4).)*\4"
_HEADER = r"(?is)\b(authorization|proxy-authorization|cookie|x-api-key)(\s*:\s*).+"
_BEARER = r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"
# Forms that providers gave their keys so that programs can tell them.
_KNOWN = (
    r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|sk-[\w-]{20,}|hf_[A-Za-z]{20,}|xox[abprs]-[\w-]{10,}"
    r"|A[KS]IA[0-9A-Z]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+)"
)
_SHORTEST_KEY = 16
_NO_PUNCTUATION = str.maketrans("", "", "_@%+=:,./*-")


def is_secret_name(name: str) -> bool:
    """Tell whether an option or variable of this name holds a secret, as far as its name says."""
    words = [word.lower() for word in re.findall(_WORDS, name) if not word.isdigit()]
    if not words:
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last == "token" and before in _TOKENS_OF_TEXT:
        return False
    return (
        last in _SECRET_LAST
        or last.endswith(_SECRET_ENDS)
        or (before, last) in _SECRET_PAIRS
        or not _SECRET_ANYWHERE.isdisjoint(words)
    )


def mask_variable(name: str, value: str) -> str:
    """Return the value of a variable as it may be recorded."""
    return MASK if value and is_secret_name(name) else mask_text(value)


def mask_url(url: str) -> str:
    """Return an address without credentials; the name before `@` stays where it is a way to log in, as in `git@`."""
    return re.sub(_USER_IN_URL, _mask_user, url) if "@" in url else url


def mask_text(text: str) -> str:
    """Return a text without the secrets that show themselves by where they stand or by their form."""
    text = mask_url(text)
    if "=" in text:
        text = re.sub(_QUERY, _mask_query, text)
    if ":" in text:
        text = re.sub(_HEADER, rf"\1\2{MASK}", re.sub(_MEMBER, _mask_member, text))
    if len(text) < _SHORTEST_KEY:
        return text
    return re.sub(_KNOWN, MASK, re.sub(_BEARER, rf"\1 {MASK}", text))


def mask_command(words: Sequence[str]) -> str:
    """Return a command line as one text that a shell would read back, without the secrets in it."""
    masked: list[str] = []
    is_secret = False
    for word in words:
        if is_secret and not word.startswith("--"):
            masked.append(MASK)
            is_secret = False
            continue
        is_secret = word.startswith("-") and "=" not in word and is_secret_name(word)
        masked.append(_quoted(_mask_word(word)))
    return " ".join(masked)


def _mask_word(word: str) -> str:
    """Mask what stands behind the first `=` whose name is that of a secret, as in `--param db.password=…`."""
    parts = word.split("=")
    for place, name in enumerate(parts[:-1]):
        if "://" not in name and not any(letter.isspace() for letter in name) and is_secret_name(name):
            return "=".join(parts[: place + 1]) + "=" + MASK
    return mask_text(word)


def _mask_user(found: re.Match[str]) -> str:
    scheme, user = found[1], found[2]
    is_login = user == "git" or (":" not in user and "ssh" in scheme.lower())
    return found[0] if is_login or not user else f"{scheme}{MASK}@"


def _mask_query(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}={MASK}" if is_secret_name(found[2]) else found[0]


def _mask_member(found: re.Match[str]) -> str:
    if not is_secret_name(found[2]):
        return found[0]
    return f"{found[1]}{found[2]}{found[1]}{found[3]}{found[4]}{MASK}{found[4]}"


def _quoted(word: str) -> str:
    is_plain = word.isascii() and word.translate(_NO_PUNCTUATION).isalnum()
    return word if is_plain else "'" + word.replace("'", "'\"'\"'") + "'"
