"""Animate a face with sound that arrives in real time, such as that of a microphone."""

import threading

import numpy as np

from talker import Talker
from talker.stages import Channel

talker = Talker.from_pretrained()
speech = np.concatenate([chunk.pcm for chunk in talker.say("I am speaking live.", audio_only=True)])


def microphone(sound: Channel) -> None:
    """Put blocks of mono float32 samples at 24 kHz, of any length, and close the channel at the end."""
    for block in np.array_split(speech, 20):
        sound.put(block)
    sound.close()


sound: Channel = Channel(capacity=10)
threading.Thread(target=microphone, args=(sound,)).start()
for chunk in talker.animate_stream(sound, talker.portrait("eve")):
    print(f"{chunk.start_seconds:.2f} s: {len(chunk.frames)} frames")
