"""The shipped weights of the audio autoencoder."""

from __future__ import annotations

import pytest
import torch

from audio_vae.config import AudioVAEConfig
from audio_vae.losses import SpectralLoss
from audio_vae.model import AudioVAE
from talker.checkpoint import load_component
from talker.shipped import PUPPET


@torch.no_grad()
def test_round_trip_of_unseen_speech_is_close() -> None:
    pytest.importorskip("espeakng_loader", reason="corpus speech needs the extra `data`")
    from puppet.corpus import bench

    model = load_component(AudioVAE, AudioVAEConfig, PUPPET / "audio_vae")
    assert model.config == AudioVAEConfig.puppet()
    clips = [bench("heldout").clip(index) for index in range(3)]
    spoken = [torch.from_numpy(clip.pcm)[None] for clip in clips if not clip.idle]
    loss = SpectralLoss(24_000, 960)
    right = [float(loss(model.decode(model.encode(pcm)), pcm)) for pcm in spoken]
    silent = [float(loss(torch.zeros_like(pcm), pcm)) for pcm in spoken]
    assert max(right) < 0.35
    assert min(silent) > 1.0
