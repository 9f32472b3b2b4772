"""Files in and out: audio, video, faces and mp4. Everything here may be handed hostile or broken files."""
