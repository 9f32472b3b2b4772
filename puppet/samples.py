"""Render the portraits and voices that the package ships: people and speakers that no corpus clip contains.

python -m puppet.samples [FOLDER]     writes portraits/*.png and voices/*.wav (default: runs/samples)
python -m puppet.samples talker/assets    replaces those of the package
"""

from __future__ import annotations

import sys
import wave
from pathlib import Path

from talker.signals import announce

if __name__ == "__main__":  # before imports that take seconds
    announce("puppet.samples")

import numpy as np
from PIL import Image

from puppet.face import identity
from puppet.render import Renderer
from puppet.speech import speak
from puppet.voices import voice
from talker.clock import SAMPLE_RATE
from talker.progress import track

# Name: (seed of the identity, seed of the voice). Neither split contains these seeds.
PEOPLE = {
    "ada": (50_032, 50_024),
    "ben": (50_076, 50_006),
    "carmen": (50_010, 50_029),
    "daniel": (50_016, 50_018),
    "eve": (50_029, 50_023),
    "frank": (50_022, 50_036),
}
PROMPT = "The river runs slowly past the old mill, and nobody is in a hurry today."


def main(folder: Path) -> None:
    """Write all portraits and voices into `folder`."""
    for name, (identity_seed, voice_seed) in track(PEOPLE.items(), "people", len(PEOPLE)):
        for kind in ("portraits", "voices"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        frame = Renderer(identity(identity_seed)).frames(np.zeros((1, 24), np.float32))[0]
        Image.fromarray(frame).save(folder / "portraits" / f"{name}.png", optimize=True)
        pcm = speak(PROMPT, voice(voice_seed)).pcm
        with wave.open(str(folder / "voices" / f"{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes((pcm.clip(-1, 1) * 32767).round().astype("<i2").tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/samples"))
