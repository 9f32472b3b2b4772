"""Receive sound and video while the rest of the sentence is still being generated."""

import time

from talker import Talker

talker = Talker.from_pretrained()
voice, portrait = talker.voice("ada"), talker.portrait("ada")

began = time.perf_counter()
for chunk in talker.stream("A chunk arrives long before the sentence is complete.", voice, portrait):
    # chunk.pcm: float32 samples at 24 kHz; chunk.frames: uint8 RGB, 25 frames a second, of the same duration.
    elapsed = time.perf_counter() - began
    print(
        f"{chunk.start_seconds:5.2f} s of the clip after {elapsed:5.2f} s:",
        chunk.pcm.shape,
        chunk.frames.shape,
    )
