"""Parameter names of the published talker, in the present and in earlier releases, and of the renderer."""

import pytest
import torch

from heads.config import TwoDiTHeadsConfig
from motion_ae.config import MotionAEConfig
from motion_ae.model import MotionAE
from motion_ae.upfirdn import blur_kernel
from talker.checkpoint import load_strict
from talker.model.config import BackboneConfig, PatchEncoderConfig, TalkerConfig
from talker.model.defaults import Defaults
from talker.model.model import TalkerModel
from talker.model.tasks import RELEASE_TASKS
from talker.weights import motion_ae
from talker.weights.talker import TIED, from_official, official

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
    kernel = next(key for key, ours in table.items() if isinstance(ours, float))
    with pytest.raises(ValueError, match=kernel):
        motion_ae.from_official(published | {kernel: 4 * published[kernel]})
