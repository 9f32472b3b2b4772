"""A native checkpoint of tiny networks with random weights, and a portrait and a voice to use with it."""

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
from talker.model.defaults import Pace
from talker.model.model import TalkerModel
from talker.speaker.encoder import SpeakerEncoder, SpeakerEncoderConfig
from talker.text.tokenizer import PhonemeTokenizer


def write_checkpoint(folder: Path, stops: bool = False) -> Path:
    """Write all four components to `folder`.

    `stops`: whether the stop predictor's probability is 1 or 0; both are independent of its input.
    """
    torch.manual_seed(0)
    config = TalkerConfig.tiny()
    backbone = dataclasses.replace(config.backbone, vocab=PhonemeTokenizer().vocab_size, max_positions=512)
    # Sentences of one second instead of three.
    defaults = dataclasses.replace(config.defaults, pace=Pace(slowest=0.1, pauses=0.4))
    model = TalkerModel(dataclasses.replace(config, backbone=backbone, forecast=0, defaults=defaults))
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
    """Write a photograph with one face."""
    Image.fromarray(data.astronaut()[:256, 100:356]).save(path)
    return path


def write_voice(path: Path, seconds: float = 1.0) -> Path:
    """Write a square wave at 120 Hz, mono at 24 kHz, whose amplitude varies at 6 Hz as in speech."""
    time = np.arange(round(seconds * 24_000)) / 24_000
    pcm = 0.4 * np.sign(np.sin(2 * np.pi * 120 * time)) * np.abs(np.sin(2 * np.pi * 3 * time))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(24_000)
        file.writeframes((pcm * 32767).astype("<i2").tobytes())
    return path
