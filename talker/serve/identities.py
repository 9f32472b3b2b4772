"""Voices and portraits of a server, by name or id: shipped ones and uploads, computed on first use."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from talker.identity import Portrait, Voice
from talker.pipeline import Talker
from talker.serve.inputs import InputError
from talker.serve.store import EXTENSIONS, Store, Upload
from talker.shipped import shipped, shipped_names

Item = TypeVar("Item", bound=Voice | Portrait)
KEPT = 32  # computed uploads in memory


class Library(Generic[Item]):
    """A table of items that are computed when they are first used."""

    def __init__(
        self,
        kind: str,
        loaders: Mapping[str, Callable[[], Item]],
        load: Callable[[Path, str], Item],
        store: Store,
    ) -> None:
        """Prepare the table.

        Args:
            kind: "voice" or "portrait".
            loaders: compute the shipped items by name. The first is the default.
            load: computes an item from the file and the detail of an upload.
            store: the uploads.
        """
        self.kind, self.store, self._shipped, self._load = kind, store, dict(loaders), load
        self._items: dict[str, Item] = {}
        self._uploads: dict[str, Item] = {}
        self._lock = threading.Lock()

    @property
    def shipped(self) -> list[str]:
        """Names of the shipped items."""
        return list(self._shipped)

    def get(self, name: str | None, owner: str) -> Item:
        """The item of a name or id; None: the default.

        Raises:
            InputError: the owner has no such item.
        """
        upload = self.check(name, owner)
        name = next(iter(self._shipped)) if name is None else name
        with self._lock:
            if upload is None:
                if name not in self._items:
                    self._items[name] = self._shipped[name]()
                return self._items[name]
            if upload.id not in self._uploads:
                file = self.file(upload.id, owner)
                self._keep(upload, self.computed(file, upload.name, upload.detail))
            return self._uploads[upload.id]

    def check(self, name: str | None, owner: str) -> Upload | None:
        """The upload of a name or id; None for a shipped item.

        Raises:
            InputError: the owner has no such item.
        """
        if name is None or name in self._shipped:
            return None
        upload = self.store.upload(self.kind, owner, name)
        if upload is None:
            names = ", ".join(self._shipped)
            raise InputError(
                "not_found",
                f"there is no {self.kind} of this name: choose one of {names}, or upload one",
                self.kind,
            )
        return upload

    def file(self, name: str, owner: str) -> Path:
        """The picture or recording of an item.

        Raises:
            InputError: the owner has no such item.
        """
        upload = self.check(name, owner)
        if upload is None:
            return shipped(f"{self.kind}s", name)
        return self.store.file(upload.id, EXTENSIONS[self.kind])

    def computed(self, file: Path, name: str, detail: str = "") -> Item:
        """Compute an item from a file that `open_upload` wrote. `detail`: see `Upload`.

        Raises:
            InputError: the file shows no face, or no speech of the transcript.
        """
        try:
            return dataclasses.replace(self._load(file, detail), name=name)
        except ValueError as error:
            message = str(error).replace(str(file), "the file").replace("--crop none", "crop=none")
            raise InputError("invalid_file", message, self.kind) from error

    def add(self, owner: str, name: str, consent: str, detail: str, content: Path) -> Upload:
        """Add an upload, if it can be used. Its file is moved.

        Raises:
            InputError: see `computed`; or the name is in use.
        """
        item = self.computed(content, name, detail)
        try:
            if name in self._shipped:
                raise KeyError(name)
            upload = self.store.add_upload(self.kind, owner, name, consent, detail, content)
        except KeyError:
            raise InputError(
                "name_taken", f"there is a {self.kind} of this name: choose another name", "name"
            ) from None
        with self._lock:
            self._keep(upload, item)
        return upload

    def _keep(self, upload: Upload, item: Item) -> None:
        if len(self._uploads) == KEPT:
            del self._uploads[next(iter(self._uploads))]
        self._uploads[upload.id] = item

    def delete(self, upload: Upload) -> None:
        """Delete an upload and its file."""
        self.store.delete_upload(upload)
        with self._lock:
            self._uploads.pop(upload.id, None)


def voice_library(talker: Talker, store: Store) -> Library[Voice]:
    """The voices of the package, and uploads."""
    loaders = {name: partial(talker.voice, name) for name in shipped_names("voices")}
    return Library("voice", loaders, lambda path, said: talker.voice(path, said or None), store)


def portrait_library(talker: Talker, store: Store) -> Library[Portrait]:
    """The portraits of the package, and uploads."""
    loaders = {name: partial(talker.portrait, name) for name in shipped_names("portraits")}
    return Library("portrait", loaders, lambda path, crop: talker.portrait(path, crop or "face"), store)
