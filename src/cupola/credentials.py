"""Credentials in text: where they stand in addresses and headers, and text without them.

What records, logs, errors and dumps show of indexes, repositories and command lines goes through `mask_credentials`.
"""

from __future__ import annotations

import re

MASK = "****"
# Up to the last `@` before the path: people forget to escape one in a password.
# Patterns are text: compiling them costs milliseconds, which most programs never need.
IN_ADDRESS = r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<secret>[^\s/?#'\"<>]*)@"
IN_QUERY = (
    r"(?i:(?P<name>[?&#](?:[\w.-]*(?:token|secret|passw(?:or)?d|signature|credential|api[_-]?key|access[_-]?key|auth)"
    r"[\w.-]*|sig|key)=))(?P<secret>[^\s&#'\"<>]+)"
)
_IN_HEADER = r"(?i:(?P<name>\bauthorization['\"]?\s*[:=]\s*['\"]?(?:basic|bearer|token)\s+))[^\s'\"]+"


def is_secret(scheme: str, user_info: str) -> bool:
    """Tell whether what stands before the `@` of an address is more than the name of an account.

    Over ssh a name alone is public (`git@`); over http it is as often as not a token.
    """
    return bool(user_info) and (":" in user_info or not scheme.lower().endswith("ssh"))


def mask_credentials(text: str) -> str:
    """Return text with `****` for what authenticates in addresses, their queries and `Authorization` headers.

    Text that was masked before stays as it is.

    Example:
        >>> mask_credentials("--index-url https://me:s3cret@pypi.example.org/simple")
        '--index-url https://****@pypi.example.org/simple'
    """
    if "@" in text:
        text = re.sub(IN_ADDRESS, _without_user, text)
    if "=" in text:
        text = re.sub(IN_QUERY, lambda match: match["name"] + MASK, text)
    if "uthorization" in text or "UTHORIZATION" in text:
        text = re.sub(_IN_HEADER, lambda match: match["name"] + MASK, text)
    return text


def _without_user(match: re.Match[str]) -> str:
    return f"{match['scheme']}://{MASK}@" if is_secret(match["scheme"], match["secret"]) else match[0]
