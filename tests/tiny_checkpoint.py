"""A native checkpoint folder of tiny networks with random weights, and input files for tests."""

from __future__ import annotations

import dataclasses
import wave
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from audio_vae.config import AudioVAEConfig
from audio_vae.model import AudioVAE
from motion_ae.config import MotionAEConfig
from motion_ae.model import MotionAE
from talker.checkpoint import save_component
from talker.model.config import TalkerConfig
from talker.model.model import TalkerModel
from talker.speaker.encoder import SpeakerEncoder, SpeakerEncoderConfig
from talker.text.tokenizer import PhonemeTokenizer


def write_checkpoint(folder: Path, stops: bool = False) -> Path:
    """Write all components into `folder` and return it.

    With `stops`, the stop predictor always votes to stop, otherwise never.
    """
    torch.manual_seed(0)
    config = TalkerConfig.tiny()
    backbone = dataclasses.replace(config.backbone, vocab=PhonemeTokenizer().vocab_size, max_positions=512)
    model = TalkerModel(dataclasses.replace(config, backbone=backbone, forecast=0))
    with torch.no_grad():
        model.stop_head.proj.weight.zero_()
        model.stop_head.proj.bias.fill_(1.0)
        model.stop_head.head.weight.fill_(1.0 if stops else -1.0)
        model.stats.audio_mean.fill_(0.1)
        model.stats.motion_std.fill_(0.3)
    save_component(model, folder / "talker")
    save_component(AudioVAE(AudioVAEConfig.tiny()), folder / "audio_vae")
    save_component(MotionAE(MotionAEConfig.tiny()), folder / "motion_ae")
    save_component(SpeakerEncoder(SpeakerEncoderConfig.tiny()), folder / "speaker")
    return folder


def write_portrait(path: Path) -> Path:
    """Write a photograph with one face and return `path`."""
    Image.fromarray(data.astronaut()[:256, 100:356]).save(path)
    return path


def write_voice(path: Path, seconds: float = 1.0) -> Path:
    """Write a voice-like sound (a 120 Hz buzz with a 3 Hz envelope, mono, 24 kHz) and return `path`."""
    time = np.arange(round(seconds * 24_000)) / 24_000
    pcm = 0.4 * np.sign(np.sin(2 * np.pi * 120 * time)) * np.abs(np.sin(2 * np.pi * 3 * time))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(24_000)
        file.writeframes((pcm * 32767).astype("<i2").tobytes())
    return path
