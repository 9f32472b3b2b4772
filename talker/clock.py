"""Rates of sound and video."""

SAMPLE_RATE = 24_000  # samples per second
FRAME_RATE = 25  # frames per second, of latents and of pictures
HOP = SAMPLE_RATE // FRAME_RATE  # samples per frame
