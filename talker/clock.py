"""Sample rate of sound, frame rate of video and latents."""

SAMPLE_RATE = 24_000  # samples per second
FRAME_RATE = 25  # frames per second, of latents and of video
HOP = SAMPLE_RATE // FRAME_RATE  # samples per frame
