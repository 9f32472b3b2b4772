"""Rates that sound and pictures share."""

SAMPLE_RATE = 24_000  # samples a second
FRAME_RATE = 25  # frames a second, of latents and of pictures
HOP = SAMPLE_RATE // FRAME_RATE  # samples a frame
