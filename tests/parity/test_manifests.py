"""Full-size models on the meta device have the keys and shapes of the published checkpoints.

test_audio_vae.py and test_motion_ae.py check the manifests of the two autoencoders.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import torch
from torch import nn

from parity.harness import MANIFESTS
from talker.model.config import TalkerConfig
from talker.model.model import TalkerModel
from talker.speaker.ecapa import Ecapa
from talker.speaker.encoder import SpeakerEncoder, SpeakerEncoderConfig
from talker.weights import speaker, talker


def check(
    model: nn.Module, name: str, rename: Callable[[str], str | None], unused: set[str], extra: set[str]
) -> None:
    """Assert that keys and shapes of `model` equal those of a published checkpoint.

    `rename` maps a published key to ours, or to None for the keys in `unused`. Only our model has the keys in
    `extra`.
    """
    published = json.loads((MANIFESTS / f"{name}.json").read_text())
    own = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    ours = {key: rename(key) for key in published}
    assert {key for key, named in ours.items() if named is None} == unused
    theirs = {named: tuple(published[key]["shape"]) for key, named in ours.items() if named is not None}
    assert len(theirs) == len(published) - len(unused), "two published keys map to one of ours"
    assert theirs.keys() - own.keys() == set()
    assert own.keys() - theirs.keys() == extra
    assert {key: own[key] for key in theirs} == theirs


def test_talker_keys_and_shapes() -> None:
    with torch.device("meta"):
        model = TalkerModel(TalkerConfig.base())
    stats = {key for key in model.state_dict() if key.startswith("stats.")}
    check(model, "talker", talker.native_key, unused={talker.TIED}, extra=stats)
    published = json.loads((MANIFESTS / "talker.json").read_text())
    config = talker.infer_config({key: tuple(row["shape"]) for key, row in published.items()})
    assert config == TalkerConfig.base()


def test_speaker_encoder_keys_and_shapes() -> None:
    with torch.device("meta"):
        model = SpeakerEncoder(SpeakerEncoderConfig.base())
    check(model, "wavlm_speaker", speaker.rename, {"feature_extract.model.mask_emb"}, set())


def test_speaker_config_follows_from_the_tensors() -> None:
    """The conversion infers the configuration from shapes and ignores tensors that only training uses."""
    published = json.loads((MANIFESTS / "wavlm_speaker.json").read_text())
    state = {
        key: torch.empty(row["shape"], device="meta")
        for key, row in published.items()
        if not key.endswith("num_batches_tracked")
    }
    state["loss_calculator.projection.weight"] = torch.empty(1)
    config, native = speaker.from_official(state)
    assert config == SpeakerEncoderConfig.base()
    with torch.device("meta"):
        own = SpeakerEncoder(config).state_dict()
    assert {key: tensor.shape for key, tensor in native.items()} == {key: t.shape for key, t in own.items()}


def test_ecapa_keys_and_shapes() -> None:
    with torch.device("meta"):
        head = Ecapa(features=1024, channels=512, merged=1536, bottleneck=128, embedding=256)

    def rename(key: str) -> str | None:
        return None if key == "feature_weight" else str(speaker.rename(key)).removeprefix("ecapa.")

    check(head, "wavlm_ecapa", rename, {"feature_weight"}, set())
