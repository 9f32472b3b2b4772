"""WhisperX-VAE: resampling and log-mel, encoder and decoder, and the key table of the full size."""

from __future__ import annotations

import dataclasses
import json

import torch
import torchaudio
from torch import Tensor

from audio_vae.config import AudioVAEConfig, WhisperConfig
from audio_vae.model import AudioVAE
from audio_vae.whisper import SAMPLE_RATE, WhisperBranch
from parity.harness import MANIFESTS, Fixture, fixtures
from talker.weights import audio_vae as keys


@fixtures("audio_frontend")
@torch.no_grad()
def test_resampling_and_log_mel(case: Fixture) -> None:
    given, resample = case.inputs, torchaudio.functional.resample
    for name, source, rates in (
        ("wav16k", "wav24k", (24_000, 16_000)),
        ("wav44k_to_16k", "wav44k", (44_100, 16_000)),
        ("wav44k_to_24k", "wav44k", (44_100, 24_000)),
        ("wav16k_to_24k", "wav16k_src", (16_000, 24_000)),
    ):
        if source in given:
            case.close(name, resample(given[source], *rates), 1e-5)
    if "wav24k" not in given:
        return
    mels = case.expected["log_mel_head"].shape[2]
    branch = WhisperBranch(WhisperConfig(mels=mels, width=8, heads=1, layers=0), 24_000)
    log_mel = branch.log_mel(given["wav24k"])
    head = case.config["mel_head"]
    case.close("log_mel_head", log_mel[:, None, :, :head], 1e-4)
    tail = log_mel[..., head:]
    case.close("log_mel_tail", torch.stack((tail.min(), tail.max())).mean()[None], 1e-4)
    assert tail.max() - tail.min() < 1e-4


def _autoencoder(case: Fixture) -> AudioVAE:
    """The recorded autoencoder. Its sizes follow from the shapes, except the number of Whisper's heads."""
    config = keys.infer_config({key: tuple(row["shape"]) for key, row in case.manifest.items()})
    assert config.convolutional is not None
    assert config.convolutional.whisper is not None
    assert config.convolutional.strides == tuple(case.config["enc_ratios"])
    heads = case.config["whisper"]["n_audio_head"]
    whisper = dataclasses.replace(config.convolutional.whisper, heads=heads)
    config = dataclasses.replace(
        config, convolutional=dataclasses.replace(config.convolutional, whisper=whisper)
    )
    model = AudioVAE(config).eval()
    computed = {
        key: value for key, value in model.state_dict().items() if key.endswith("positional_embedding")
    }
    drawn = case.params()
    drawn["semantic_model.encoder.positional_embedding"] = computed["whisper.encoder.positional_embedding"]
    model.load_state_dict(keys.from_official(drawn)[1], strict=True)
    return model


def _recorded_mel(case: Fixture, suffix: str) -> Tensor:
    """The recorded log-mel spectrogram (1, mels, 3000): its first frames, then silence at the floor."""
    head, tail = case.inputs[f"log_mel_head{suffix}"].flatten(0, 1), case.inputs[f"log_mel_tail{suffix}"]
    missing = 2 * case.config["whisper"]["n_audio_ctx"] - head.shape[2]
    return torch.cat((head, tail.view(-1, 1, 1).expand(*head.shape[:2], missing)), dim=2)


@fixtures("audio_vae")
@torch.no_grad()
def test_encode_and_decode(case: Fixture) -> None:
    model, tolerance = _autoencoder(case), 2e-5
    assert isinstance(model.whisper, WhisperBranch)
    for suffix in ("", "_odd"):  # "_odd": the last latent frame is incomplete
        if f"wav{suffix}" not in case.inputs:
            continue
        wav = case.inputs[f"wav{suffix}"][:, 0]
        count = wav.shape[1] // model.hop
        acoustic = model.encoder(wav)
        case.close(f"acoustic{suffix}", acoustic.transpose(1, 2), tolerance)
        case.close(f"latent{suffix}", model.encode(wav), 1e-4)  # with our own log-mel spectrogram
        if f"log_mel_head{suffix}" not in case.inputs:
            continue
        mel = _recorded_mel(case, suffix)
        assert (model.whisper.log_mel(wav) - mel).abs().max() < 1e-4
        if not suffix:
            fine = model.whisper.encoder(mel)[:, : 2 * count]
            case.close("semantic_50hz_head", fine, tolerance)
        mean, _ = model.bottleneck.posterior(acoustic + model.whisper.features(mel, count))
        case.close(f"latent{suffix}", mean, tolerance)
    if "latent" in case.expected:
        case.close("decoded", model.decode(case.expected["latent"])[:, None], tolerance)
    case.close("decoded_random", model.decode(case.inputs["latent_random"])[:, None], tolerance)


def test_key_table_covers_the_published_checkpoint() -> None:
    manifest = json.loads((MANIFESTS / "whisperx_vae.json").read_text())
    shapes = {key: tuple(row["shape"]) for key, row in manifest.items()}
    config = AudioVAEConfig.base()
    assert keys.infer_config(shapes) == config
    table = keys.key_table(config)
    assert table.keys() == {key for key in shapes if key.startswith(keys.PARTS)}
    unused = {key for key in shapes if not key.startswith(keys.PARTS)}
    assert all(key.startswith("semantic_model.decoder.") for key in unused)
    with torch.device("meta"):
        state = AudioVAE(config).state_dict()
    named = {
        ours: keys.native_shape(official, shapes[official])
        for official, ours in table.items()
        if not official.endswith(".weight_g")
    }
    assert named == {key: tuple(tensor.shape) for key, tensor in state.items()}
    assert SAMPLE_RATE == 16_000
