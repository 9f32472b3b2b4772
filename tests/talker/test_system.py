"""Loading a system, errors of checkpoints that cannot be used, and the codecs."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_checkpoint import write_checkpoint
from toy_generator import ToyGenerator

from audio_vae.config import AudioVAEConfig
from audio_vae.model import AudioVAE
from heads.streams import Streams
from motion_ae.config import MotionAEConfig
from motion_ae.model import MotionAE
from talker import Talker, UserError
from talker.checkpoint import load_component, save_component
from talker.model.config import TalkerConfig
from talker.model.model import TalkerModel
from talker.speaker.encoder import SpeakerEncoder, SpeakerEncoderConfig
from talker.system import System


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint for tests that change it."""
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def refusal(*arguments: object) -> str:
    """The error message of `System.load` with these arguments."""
    with pytest.raises(UserError) as caught:
        System.load(*arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["talker", "audio_vae", "motion_ae", "speaker"])
@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(copy: Path, part: str, file: str) -> None:
    (copy / part / file).unlink()
    assert f"{copy / part / file} is missing" in refusal(copy)


def test_a_missing_folder_is_named_with_the_shipped_models(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a folder nor one of the shipped models") as caught:
        Talker.from_pretrained(tmp_path / "nowhere")
    assert "puppet" in str(caught.value)


def test_an_unknown_architecture_is_named(copy: Path) -> None:
    config = copy / "talker" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"architecture": "diffusion"}))
    message = refusal(copy)
    assert "architecture 'diffusion'" in message
    assert "autoregressive" in message
    assert "newer version" in message


def test_a_config_without_architecture_is_autoregressive(copy: Path) -> None:
    config = copy / "talker" / "config.json"
    values = json.loads(config.read_text())
    assert values.pop("architecture") == "autoregressive"
    config.write_text(json.dumps(values))
    assert System.load(copy).generator.tasks == ("tts", "t2av", "a2v", "v2a")


def test_an_unknown_dtype_is_refused_with_the_choices(folder: Path) -> None:
    assert refusal(folder, "cpu", "int8").endswith("float32, bfloat16, float16")


def test_an_unknown_device_is_refused(folder: Path) -> None:
    assert "device 'abacus' cannot be used" in refusal(folder, "abacus")


def test_parts_of_other_sizes_are_refused(copy: Path) -> None:
    motion_ae = dataclasses.replace(MotionAEConfig.tiny_published(), motion_dim=7)
    save_component(MotionAE(motion_ae), copy / "motion_ae")
    message = refusal(copy)
    assert message.startswith(str(copy))
    assert "the motion part has 7 latent channels" in message


def test_a_vocabulary_of_another_size_is_refused(copy: Path) -> None:
    config = load_component(TalkerModel, TalkerConfig, copy / "talker").config
    backbone = dataclasses.replace(config.backbone, vocab=config.backbone.vocab + 1)
    save_component(TalkerModel(dataclasses.replace(config, backbone=backbone)), copy / "talker")
    assert f"{backbone.vocab} token ids, and the phoneme tokenizer" in refusal(copy)


def test_parts_that_do_not_fit_are_refused(folder: Path) -> None:
    good = System.load(folder)
    speaker = SpeakerEncoder(dataclasses.replace(SpeakerEncoderConfig.tiny(), embedding=24))
    with pytest.raises(ValueError, match="the speaker part has 24 values"):
        System(good.generator, good.audio_vae, good.motion_ae, speaker)
    audio_vae = AudioVAE(AudioVAEConfig.tiny())
    audio_vae.sample_rate = 16_000
    with pytest.raises(ValueError, match=r"\(16000, 960\) samples a second and a frame"):
        System(good.generator, audio_vae, good.motion_ae, good.speaker)


def test_all_parts_have_the_dtype_of_the_request(folder: Path) -> None:
    system = Talker.from_pretrained(folder, "cpu", "bfloat16").system
    parts = (system.generator.model, system.audio_vae, system.motion_ae, system.speaker)
    assert {next(part.parameters()).dtype for part in parts} == {torch.bfloat16}
    kept = (system.generator.model.stats.deviation["audio"], system.generator.model.stop_head.proj.weight)
    assert {x.dtype for x in kept} == {torch.float32}
    assert repr(system) == "<System: cpu, bfloat16, 32 pixels, tts, t2av, a2v, v2a>"
    pcm = 0.1 * torch.randn(24_000)
    assert {x.dtype for x in (system.embed_voice(pcm), system.encode(pcm))} == {torch.float32}
    (patch,) = system.decode([torch.zeros(4, system.audio_vae.latent_dim)])
    assert patch.dtype == np.float32


# -- codecs --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def system(folder: Path) -> System:
    return System.load(folder)


def test_decoded_samples_are_limited_to_full_scale(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    loud = torch.linspace(-3, 3, 3840)[None]
    monkeypatch.setattr(system.audio_vae, "decode", lambda latents, state, last: loud[:, last * 3840 :])
    (patch,) = system.decode([torch.zeros(4, system.audio_vae.latent_dim)])
    assert np.array_equal(patch, loud[0].clamp(-1, 1).numpy())


@torch.inference_mode()
def test_decoding_patch_by_patch_equals_decoding_the_whole(system: System) -> None:
    latents = torch.randn(40, system.audio_vae.latent_dim)
    patches = list(system.decode(latents.split(system.patch_frames)))
    assert [len(pcm) for pcm in patches] == [3840] * 10
    whole = system.audio_vae.decode(latents[None])[0]
    assert np.allclose(np.concatenate(patches), whole.numpy(), atol=1e-4)


@torch.inference_mode()
def test_encoding_blocks_equals_encoding_the_whole(system: System) -> None:
    pcm = 0.1 * torch.randn(30 * 960)
    blocks = torch.cat(list(system.encode_stream(pcm.split(1111))))
    assert torch.allclose(blocks, system.encode(pcm), atol=1e-4)


@torch.inference_mode()
def test_reading_motion_image_by_image_equals_encoding_all_images(system: System) -> None:
    pictures = torch.rand(6, 3, system.resolution, system.resolution) * 2 - 1
    motion = torch.cat(list(system.read_motion(pictures.split(1))))
    assert torch.allclose(motion, system.motion_ae.encode(pictures), atol=1e-5)


def test_silence_is_the_latent_of_a_frame_inside_silence(system: System) -> None:
    assert torch.equal(system.silence, system.encode(torch.zeros(24_000))[12])


def test_frames_are_audible_half_a_standard_deviation_from_silence(system: System) -> None:
    toy = ToyGenerator(system.generator.widths, system.generator.speaker_dim)
    scale = torch.logspace(-2, 2, toy.widths["audio"])
    toy.scale = Streams(audio=scale)
    scaled = System(toy, system.audio_vae, system.motion_ae, system.speaker)
    apart = torch.tensor([0.0, 0.49, -0.49, 0.51, -0.51])
    assert scaled.audible(system.silence + apart[:, None] * scale).tolist() == [False] * 3 + [True] * 2
    toy.defaults = dataclasses.replace(toy.defaults, guard=None)
    assert scaled.audible(system.silence.expand(3, -1)).all()
