"""Helpers that make requests for an autoregressive model, generate them, and compare the results."""

from __future__ import annotations

import dataclasses

import torch

from heads.sampling import Sampling
from heads.streams import Streams
from talker.generation.request import Noise, TokenRequest
from talker.generation.running_batch import RunningBatch
from talker.generation.sequence import Sequence
from talker.model.config import TalkerConfig
from talker.model.defaults import StopRule
from talker.model.layout import Layout
from talker.model.model import TalkerModel
from talker.model.tasks import task_named

TASKS = ("tts", "t2av", "a2v", "v2a")
ALIGNED = Layout(text_per_patch=2.0)


def model_of(layout: Layout = ALIGNED) -> TalkerModel:
    """A tiny model with random weights."""
    torch.manual_seed(0)
    return TalkerModel(dataclasses.replace(TalkerConfig.tiny(), layout=layout)).eval()


def request_of(
    config: TalkerConfig, name: str, seed: int, frames: int = 14, **changes: object
) -> TokenRequest:
    """A request for task `name`. Text, voice and given stream also depend on the seed."""
    g = torch.Generator().manual_seed(seed)
    task = task_named(config.tasks, name)
    latents = {stream: torch.randn(frames, width, generator=g) for stream, width in config.widths.items()}
    globals_ = {stream: torch.randn(width, generator=g) for stream, width in config.global_widths.items()}
    values = {
        "text_ids": torch.randint(1, config.backbone.vocab, (4 + seed % 5,), generator=g).tolist(),
        "task": name,
        "speaker": globals_["audio"],
        "first_motion": globals_["motion"],
        "seed": seed,
        "sampling": Sampling(steps=2),
        "given": Streams(**{stream: latents[stream] for stream in task.given}) if task.given else None,
        "max_patches": -(-frames // config.patch_frames),
        "stop": StopRule.never(),
    }
    return TokenRequest(**(values | changes))


def prefixed(config: TalkerConfig, request: TokenRequest) -> TokenRequest:
    """Add a prefix of two patches of every stream of the task."""
    task = task_named(config.tasks, request.task)
    g = torch.Generator().manual_seed(request.seed + 100)
    shapes = {name: (2, config.patch_frames, config.widths[name]) for name in task.given + task.predicted}
    prefix = Streams(**{name: torch.randn(shape, generator=g) for name, shape in shapes.items()})
    return dataclasses.replace(request, prefix=prefix)


def alone(model: TalkerModel, request: TokenRequest, capacity: int) -> list[Streams]:
    """The raw patches of a request that is alone in a batch of this capacity."""
    return generated(model, request, capacity=capacity)[0]


def same(ours: list[Streams], theirs: list[Streams]) -> bool:
    """Whether two lists of patches have identical values."""
    assert len(ours) == len(theirs) > 0
    return all(
        [n for n, _ in a.items()] == [n for n, _ in b.items()]
        and all(torch.equal(x, b[n]) for n, x in a.items())
        for a, b in zip(ours, theirs, strict=True)
    )


def finish(batch: RunningBatch, sequence: Sequence) -> list[Streams]:
    """Run the batch until a sequence ends, and return its raw patches."""
    while sequence.finish_reason is None:
        batch.step()
    return list(sequence.patches)


def generated(
    model: TalkerModel, request: TokenRequest, noise: Noise | None = None, capacity: int = 1
) -> tuple[list[Streams], str | None]:
    """The raw patches and the finish reason of a request that is alone in a batch."""
    batch = RunningBatch(model, capacity)
    sequence = batch.join(request, noise)
    return finish(batch, sequence), sequence.finish_reason
