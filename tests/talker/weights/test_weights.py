"""Parameter names of the published talker, in the present and in earlier releases, and of the renderer."""

import pytest
import torch

from audio_vae.config import AudioVAEConfig, ConvolutionalConfig, WhisperConfig
from audio_vae.model import AudioVAE
from heads.config import TwoDiTHeadsConfig
from motion_ae.config import MotionAEConfig
from motion_ae.model import MotionAE
from motion_ae.upfirdn import blur_kernel
from talker.checkpoint import load_strict
from talker.model.config import BackboneConfig, PatchEncoderConfig, TalkerConfig
from talker.model.defaults import Defaults
from talker.model.model import TalkerModel
from talker.model.tasks import RELEASE_TASKS
from talker.weights import audio_vae, motion_ae, speaker
from talker.weights.talker import TIED, from_official, modern, native_key, official

SMALL = TalkerConfig(
    backbone=BackboneConfig(vocab=30, width=64, layers=2, heads=4, kv_heads=2, head_dim=16, ffn=96),
    patch_encoder=PatchEncoderConfig(layers=1, heads=4, ffn=170),
    heads=TwoDiTHeadsConfig.both(
        audio=(32, 20), motion=(40, 40), hidden_width=64, width=64, layers=2, heads=2, ffn=170
    ),
    tasks=RELEASE_TASKS,
    defaults=Defaults.release(),
)


@pytest.fixture
def published() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = TalkerModel(SMALL).state_dict()
    return {official(key): value for key, value in state.items() if not key.startswith("stats.")}


@pytest.mark.parametrize("tied", [False, True])
def test_published_names_load(published, tied):
    if tied:
        published[TIED] = published["llm.model.embed_tokens.weight"]
    published["spk.anything"] = torch.zeros(1)
    config, state = from_official(published)
    assert config == SMALL
    model = TalkerModel(config)
    load_strict(model, state, "file")
    assert model.stats.motion_std.max() < 1
    for key, value in model.state_dict().items():
        if not key.startswith("stats."):
            assert torch.equal(value, published[official(key)])


def test_earlier_names_load(published):
    earlier = {}
    for key, value in published.items():
        key = key.replace("speech_patch_encoder.", "patch_encoder.").replace(
            "patch_encoder.input_proj", "patch_encoder.in_proj"
        )
        conditioned = "first_motion_proj" if key.startswith("motion") else "spk_proj"
        earlier[key.replace("global_cond_proj", conditioned)] = value
    assert earlier.keys() != published.keys()
    _, state = from_official(earlier)
    assert state.keys() == TalkerModel(SMALL).state_dict().keys()


def test_other_files_are_refused(published):
    published["something.else"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"unknown \['something.else'\]"):
        from_official(published)
    with pytest.raises(ValueError, match="missing"):
        from_official({})
    for name in (native_key, official):
        with pytest.raises(KeyError, match="other"):
            name("other")


def test_names_are_translated_both_ways(published):
    for key in published:
        assert official(native_key(key)) == key
    assert native_key("spk.weight") is native_key("pretrained_speech_encoder.weight") is None


def test_a_checkpoint_of_speech_alone_loads_the_audio_head_only():
    """Its published name is that of the motion head."""
    assert modern({"motion_cfm.a": torch.ones(1)}).keys() == {"speech_cfm.a"}
    both = {"motion_cfm.a": torch.ones(1), "speech_cfm.a": torch.ones(1)}
    assert modern(both).keys() == both.keys()


def test_published_autoencoder_of_other_sizes_loads_without_weight_norm():
    sizes = WhisperConfig(mels=8, positions=10, width=64, heads=1, layers=1)
    form = ConvolutionalConfig(encoder_width=4, hidden=64, decoder_width=16, strides=(2, 3), whisper=sizes)
    config = AudioVAEConfig(latent_dim=5, convolutional=form)
    native, table = AudioVAE(config).state_dict(), audio_vae.key_table(config)
    shapes = {}
    for key, ours in table.items():
        shape = tuple(native[ours].shape)
        if key.endswith((".weight_v", ".weight_g", ".alpha")):
            shape = (*shape, 1) if key.startswith("vae.") else shape[:2] + shape[3:]
        shapes[key] = (len(native[ours]), 1, 1) if key.endswith(".weight_g") else shape
        assert key.endswith(".weight_g") or audio_vae.native_shape(key, shapes[key]) == native[ours].shape
    published = {key: torch.rand(shape) + 0.1 for key, shape in shapes.items()}
    found, state = audio_vae.from_official(published | {"optimiser.step": torch.ones(1)})
    assert found == config
    load_strict(AudioVAE(config), state, "file")
    key = "CodecDec.model.1.block.1"
    length, direction = published[f"{key}.weight_g"], published[f"{key}.weight_v"]
    folded = state[table[f"{key}.weight_v"]].reshape(direction.shape)
    torch.testing.assert_close(folded.flatten(1).norm(dim=1), length.flatten())
    torch.testing.assert_close(folded / folded[:, :1, :1], direction / direction[:, :1, :1])
    del published["vae.in_proj.bias"]
    with pytest.raises(ValueError, match=r"missing: \['vae.in_proj.bias'\]; unexpected: \['vae.more'\]"):
        audio_vae.from_official(published | {"vae.more": torch.ones(1)})


@pytest.mark.parametrize(
    ("module", "words"),
    [(audio_vae, "the published WhisperX-VAE"), (motion_ae, "LIA-X"), (speaker, "wavlm_large_finetune.pth")],
)
def test_files_of_other_networks_are_refused(module, words):
    with pytest.raises(ValueError, match=words):
        module.from_official({"weight": torch.ones(1)})
    if module is audio_vae:
        with pytest.raises(ValueError, match="is convolutional"):
            module.key_table(AudioVAEConfig.tiny())


def test_published_renderer_loads_with_its_own_blur_kernels_only():
    narrow = MotionAEConfig(
        resolution=512,
        style_dim=8,
        motion_dim=3,
        channels=(4,) * 7,
        flow_blocks=(0,) * 7,
        rgb_blocks=(0,) * 7,
    )
    state, table = MotionAE(narrow).state_dict(), motion_ae.key_table(narrow)
    published = {
        key: state[ours] if isinstance(ours, str) else blur_kernel(ours) for key, ours in table.items()
    }
    config, native = motion_ae.from_official(published)
    assert config == narrow
    load_strict(MotionAE(config), native, "file")
    assert all(torch.equal(value, state[key]) for key, value in native.items())
    with pytest.raises(ValueError, match=r"missing: \['dec.input.input'\]; unexpected: \['dec.more'\]"):
        motion_ae.from_official(
            {key: x for key, x in published.items() if key != "dec.input.input"} | {"dec.more": torch.ones(1)}
        )
    kernel = next(key for key, ours in table.items() if isinstance(ours, float))
    with pytest.raises(ValueError, match=kernel):
        motion_ae.from_official(published | {kernel: 4 * published[kernel]})
