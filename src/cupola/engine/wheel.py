"""A wheel of the Cupola that is running, made from its installed files, whether installed or an editable checkout.

An environment of a step holds it, so that both sides of a run are of one version, released or not.
"""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from email.parser import HeaderParser
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import msgspec

from cupola import digest
from cupola.engine.sources import PACKAGE, own_files
from cupola.errors import ConfigError
from cupola.ids import new_id
from cupola.version import VERSION

_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_TAGS = "Wheel-Version: 1.0\nGenerator: cupola\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


class Wheel(msgspec.Struct, frozen=True, kw_only=True):
    """A wheel of the running Cupola.

    Attributes:
        path: The file.
        digest: Digest of what is in it.
        sha256: Digest of the file, as uv checks it.
        requires: What Cupola itself requires, extras included.
    """

    path: Path
    digest: str
    sha256: str
    requires: tuple[str, ...]


def make_wheel(folder: Path) -> Wheel:
    """Return the wheel of the running Cupola, written below a folder unless it is there.

    Raises:
        ConfigError: Cupola isn't installed, so that nobody knows what it requires.
    """
    installed = _installed()
    contents = {f"cupola/{name}": Path(PACKAGE, name).read_bytes() for name, _ in own_files()}
    information = f"cupola-{VERSION}.dist-info"
    contents[f"{information}/METADATA"] = _metadata(installed)
    contents[f"{information}/WHEEL"] = _TAGS.encode()
    contents[f"{information}/entry_points.txt"] = (installed.read_text("entry_points.txt") or "").encode()
    contents = dict(sorted(contents.items()))
    name = digest.environment(part for path, data in contents.items() for part in (path.encode(), data))
    path = folder / name.partition(":")[2] / f"cupola-{VERSION}-py3-none-any.whl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{os.uname().nodename}.{new_id()}")
        _write(draft, contents, f"{information}/RECORD")
        os.replace(draft, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Wheel(path=path, digest=name, sha256=sha256, requires=tuple(sorted(installed.requires or ())))


def _installed() -> Distribution:
    try:
        return distribution("cupola")
    except PackageNotFoundError as error:
        raise ConfigError(
            "an environment of a step gets Cupola as it is installed here, but it isn't: only its folder was found",
            where=PACKAGE,
            fix="install it: pip install cupola, or pip install -e . in its checkout",
        ) from error


def _metadata(installed: Distribution) -> bytes:
    headers = HeaderParser().parsestr(installed.read_text("METADATA") or "")
    # The one that a checkout was installed with may be older than the checkout.
    kept = [("Metadata-Version", "2.1"), ("Name", "cupola"), ("Version", VERSION)]
    kept += [(name, text) for name, text in headers.items() if name in ("Requires-Python", "Requires-Dist")]
    kept += [("Provides-Extra", text) for text in headers.get_all("Provides-Extra", [])]
    return "".join(f"{name}: {text}\n" for name, text in kept).encode()


def _write(path: Path, contents: dict[str, bytes], record: str) -> None:
    lines: list[str] = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in contents.items():
            archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), data)
            code = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            lines.append(f"{name},sha256={code},{len(data)}\n")
        archive.writestr(zipfile.ZipInfo(record, _LONG_AGO), "".join([*lines, f"{record},,\n"]))
