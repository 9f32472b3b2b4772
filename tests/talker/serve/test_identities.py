"""Uploaded voices and portraits are computed as they were uploaded, also after a restart."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from talker import Talker
from talker.serve import identities
from talker.serve.identities import portrait_library, voice_library
from talker.serve.inputs import InputError
from talker.serve.store import Store
from talker.shipped import shipped_names


def copied(path: Path, folder: Path) -> Path:
    return Path(shutil.copy(path, folder / f"copy{path.suffix}"))


def test_an_upload_has_the_values_of_its_file_also_after_a_restart(
    talker: Talker, folder: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "data")
    expected = talker.portrait(folder / "face.png", crop="none")
    library = portrait_library(talker, store)
    upload = library.add("ann", "me", "yes", "none", copied(folder / "face.png", tmp_path))
    voices = voice_library(talker, store)
    spoken = voices.add("ann", "me", "yes", "", copied(folder / "voice.wav", tmp_path))
    before = library.get("me", "ann")
    store.close()
    store = Store(tmp_path / "data")
    again = portrait_library(talker, store)
    for found in (before, again.get("me", "ann"), again.get(upload.id, "ann")):
        assert found.name == "me"
        assert torch.equal(found.motion, expected.motion)
    voice = voice_library(talker, store).get(spoken.id, "ann")
    assert torch.equal(voice.embedding, talker.voice(folder / "voice.wav").embedding)
    assert again.file("me", "ann").read_bytes() == (folder / "face.png").read_bytes()
    assert again.file(first := shipped_names("portraits")[0], "ann").stem == first
    again.delete(upload)
    with pytest.raises(InputError, match="upload one"):
        again.get("me", "ann")
    store.close()


def test_the_oldest_computed_uploads_are_forgotten(
    talker: Talker, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "KEPT", 2)
    store = Store(tmp_path / "data")
    library = voice_library(talker, store)
    names = [library.add("ann", name, "yes", "", copied(folder / "voice.wav", tmp_path)).id for name in "abc"]
    assert list(library._uploads) == names[1:]
    library.get("a", "ann")
    assert list(library._uploads) == [names[2], names[0]]
    store.close()
