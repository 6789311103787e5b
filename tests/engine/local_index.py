"""An index of packages on this machine, of wheels made by hand, so that no test of environments needs a network."""

from __future__ import annotations

import base64
import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

OWN = ("msgspec", "blake3", "pyyaml", "typing_extensions", "cloudpickle")
"""What an environment needs for Cupola itself, as it is installed for the tests."""


def make_wheel(
    folder: Path, name: str, version: str, *, requires: Sequence[str] = (), files: Mapping[str, str] | None = None
) -> Path:
    """Write a wheel of a package with `VERSION` in it."""
    contents = {
        f"{name}/__init__.py": f"VERSION = {version!r}\n",
        **(files or {}),
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {line}\n" for line in requires),
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    path = folder / f"{name}-{version}-py3-none-any.whl"
    _write(path, {name: text.encode() for name, text in contents.items()})
    return path


def copy_installed(folder: Path, name: str) -> Path:
    """Write a wheel of what is installed here."""
    found = distribution(name)
    contents: dict[str, bytes] = {}
    for file in found.files or ():
        path = str(file)
        if not path.startswith("..") and not path.endswith((".pyc", "RECORD", "direct_url.json", "INSTALLER")):
            contents[path] = Path(str(found.locate_file(file))).read_bytes()
    tags = [line.removeprefix("Tag: ") for line in (found.read_text("WHEEL") or "").splitlines() if line[:4] == "Tag:"]
    first = tags[0].split("-")
    platforms = ".".join(tag.split("-")[2] for tag in tags)
    information = next(path for path in contents if path.endswith(".dist-info/METADATA")).split("/")[0]
    stem = information.removesuffix(".dist-info")
    path = folder / f"{stem}-{first[0]}-{first[1]}-{platforms}.whl"
    _write(path, contents)
    return path


def _write(path: Path, contents: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    information = next(name for name in contents if name.endswith(".dist-info/METADATA")).split("/")[0]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
        archive.writestr(f"{information}/RECORD", "".join(f"{name},,\n" for name in contents))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    folder: Path
    login: str

    def do_GET(self) -> None:
        expected = f"Basic {base64.b64encode(self.login.encode()).decode()}"
        if self.login and self.headers.get("Authorization") != expected:
            self._answer(401, b"", "text/plain")
            return
        parts = [part for part in self.path.partition("?")[0].split("/") if part]
        if parts[:1] == ["simple"]:
            found = [path for path in self.folder.glob("*.whl") if _normal(path.name.split("-")[0]) == parts[1]]
            links = (f'<a href="/files/{path.name}#sha256={sha256(path)}">{path.name}</a>' for path in found)
            self._answer(200 if found else 404, "".join(links).encode(), "text/html")
            return
        path = self.folder.joinpath(*parts[1:] if parts[:1] == ["files"] else parts)
        found = path.is_file()
        self._answer(200 if found else 404, path.read_bytes() if found else b"", "application/octet-stream")

    do_HEAD = do_GET

    def _answer(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="packages"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        pass


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


@contextmanager
def serve(folder: Path, login: str = "") -> Iterator[str]:
    """Serve the wheels of a folder as an index, and its files; yield `host:port`. With a login, only to who has it."""
    handler = type("Handler", (_Handler,), {"folder": folder, "login": login})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
