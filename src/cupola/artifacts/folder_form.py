"""How the store sees a materializer of a plugin: a folder it writes, whose files become blobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cupola import digest
from cupola.artifacts.blobs import Blobs
from cupola.artifacts.port import Materializer, StorageForm, describe, name_of_type, public_name
from cupola.artifacts.trees import restore_tree, store_tree, tree_digest
from cupola.artifacts.views import private_folder
from cupola.entities.artifact import Manifest
from cupola.errors import MaterializerError


class FolderForm(StorageForm):
    """A materializer that saves to a folder.

    Args:
        materializer: What a plugin or the project provides.
    """

    def __init__(self, materializer: Materializer[Any]) -> None:
        self.materializer = materializer
        self.id = materializer.id
        self.format = materializer.format
        self.stable = materializer.stable

    def store(self, value: Any, blobs: Blobs, path: str) -> Manifest:
        folder = Path(blobs.temporary_path())
        blobs.make_folders(str(folder))
        try:
            self.materializer.save(value, folder)
            files = store_tree(folder, blobs)
        finally:
            import shutil  # here, since it brings three libraries of compression

            shutil.rmtree(folder, ignore_errors=True)
        if not files:
            raise MaterializerError(
                f"materializer {self.id!r} saved nothing for {path}",
                where=public_name(type(self.materializer)),
                fix="its `save(value, folder)` must write at least one file into the folder",
            )
        size = sum(file.size_bytes for file in files)
        content = digest.value(self.id, self.format, b"", tree_digest(files).encode())
        return Manifest(self.id, self.format, name_of_type(value), content, size, files=files, stable=self.stable)

    def load(self, manifest: Manifest, blobs: Blobs, as_type: Any) -> Any:
        folder = private_folder(blobs.home) / "value"
        restore_tree(manifest.files, blobs, folder)
        return self.materializer.load(folder, as_type if isinstance(as_type, type) else None)

    def metadata(self, value: Any, manifest: Manifest) -> dict[str, Any]:
        facts = dict(self.materializer.metadata(value))
        shown = self.materializer.preview(value)
        return {**facts, "preview": shown} if shown else facts

    def preview(self, manifest: Manifest, blobs: Blobs) -> str:
        return describe_files(manifest)


def describe_files(manifest: Manifest, most: int = 20) -> str:
    """Return what a stored folder holds, for people."""
    lines = [describe(manifest)]
    lines += [f"  {file.path}  {file.size_bytes:,} bytes" for file in manifest.files[:most]]
    if len(manifest.files) > most:
        lines.append(f"  … and {len(manifest.files) - most} more")
    return "\n".join(lines)
