"""The talker: a causal language model of text and patches, whose hidden states condition the heads."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heads.dit import TwoDiTHeads
from heads.flow import Draws, draws
from heads.head import Condition
from heads.streams import Streams
from talker.model.backbone import Backbone
from talker.model.config import TalkerConfig
from talker.model.layout import IGNORED
from talker.model.patch_encoder import PatchEncoder
from talker.model.stats import LatentStats
from talker.model.training_batch import TrainingBatch


class StopHead(nn.Module):
    """The stop predictor: linear, SiLU, linear to one logit."""

    def __init__(self, width: int) -> None:
        """`width`: of the hidden states."""
        super().__init__()
        self.proj = nn.Linear(width, width)
        self.head = nn.Linear(width, 1, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits (...), float32, of hidden states (..., width) of any dtype."""
        # In a matrix product with one output, the rounding of a row would depend on its index.
        return (F.silu(self.proj(hidden.float())) * self.head.weight[0]).sum(-1)


class Forecast(nn.Module):
    """Auxiliary network that regresses the next patch from the hidden state. Used in training only.

    Its gradient trains the backbone before the heads have learned to use the hidden state.
    """

    def __init__(self, width: int, inner: int, frames: int, channels: dict[str, int]) -> None:
        """`width`: of the hidden states; `channels`: latent channels of each stream."""
        super().__init__()
        self.frames = frames
        self.inner = nn.Linear(width, inner)
        self.out = nn.ModuleDict({name: nn.Linear(inner, frames * c) for name, c in channels.items()})

    def forward(self, hidden: Tensor, stream: str) -> Tensor:
        """Patches (R, P, C) of a stream from hidden states (R, width)."""
        return self.out[stream](F.gelu(self.inner(hidden))).unflatten(-1, (self.frames, -1))


class AlignmentHead(nn.Module):
    """Predicts the distance in text tokens from the text position of the last slot to that of the next slot.

    The text position of a slot is the number of text tokens spoken by its end. It determines the rotary
    position of the slot, so that a slot is close to the text that is spoken next. Training jitters the text
    position of the last slot, so the head also learns to correct errors. Not part of the published model.
    """

    def __init__(self, width: int, inner: int) -> None:
        """`width`: of the hidden states."""
        super().__init__()
        self.proj = nn.Linear(width, inner)
        self.head = nn.Linear(inner, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Distances (...) in text tokens, float32, of hidden states (..., width) of any dtype."""
        return (F.silu(self.proj(hidden.float())) * self.head.weight[0]).sum(-1) + self.head.bias[0]


class TalkerModel(nn.Module):
    """Predicts the next patch of both streams from text and previous patches, as normalised latents."""

    def __init__(self, config: TalkerConfig, heads: nn.Module | None = None) -> None:
        """`heads`: a `heads.head.Head` with the sizes in `config.heads`; None: `TwoDiTHeads`."""
        super().__init__()
        self.config = config
        width = config.backbone.width
        self.backbone = Backbone(config.backbone)
        self.task_embedding = nn.Embedding(config.task_rows, width)
        self.motion_pad_emb = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.patch_encoders = nn.ModuleDict(
            {name: PatchEncoder(c, width, config.patch_encoder) for name, c in config.widths.items()}
        )
        self.heads: Any = heads or TwoDiTHeads(config.heads)
        self.stop_head = StopHead(width)
        self.stats = LatentStats(config.widths["audio"], config.widths["motion"])
        # The attribute keeps its former name, because checkpoints contain its parameters.
        self.reading = AlignmentHead(width, config.reading) if config.reading else None
        self.forecast = (
            Forecast(width, config.forecast, config.patch_frames, config.widths) if config.forecast else None
        )

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.motion_pad_emb.device

    def cast(self, dtype: torch.dtype) -> TalkerModel:
        """Convert the weights to `dtype` in place and return the model.

        The latent statistics, the stop predictor and the alignment head stay in float32.
        """
        for name, child in self.named_children():
            if name not in ("stats", "stop_head", "reading"):
                child.to(dtype)
        self.motion_pad_emb.data = self.motion_pad_emb.data.to(dtype)
        return self

    # -- training ------------------------------------------------------------------------------------------

    def forward(self, batch: TrainingBatch, draws: Draws) -> dict[str, Tensor]:
        """Compute unreduced errors. Recipes weight and reduce them.

        Args:
            batch: B samples of S slots, with R predicted patches of a stream.
            draws: k draws of each predicted patch, in k R rows. The draws of a patch are adjacent.

        Returns:
            audio, motion: (R, k) squared velocity errors, mean over the patch, ordered by sample and slot.
            forecast_audio, forecast_motion: (R,) squared errors, mean over the patch, if `config.forecast`.
            stop: (B, S) cross-entropies, 0 at positions without a label.
            reading: (B, S) smooth L1 errors of the alignment head in text tokens, 0 at slots with unknown
                text position, if `config.reading`.
        """
        hidden = self.backbone(self.embed(batch), self.rotary(batch))
        found = {"stop": self._stop_errors(hidden, batch)}
        if self.reading is not None:
            found["reading"] = self._reading_errors(hidden, batch)
        for group in self.config.layout.groups:
            found |= self._patch_errors(group, hidden, batch, draws)
        return found

    def draws(self, batch: TrainingBatch, generator: torch.Generator, repeat: int = 2) -> Draws:
        """Draws for `forward`: `repeat` of each predicted patch (2 in the release)."""
        return draws(
            Streams(
                **{
                    name: batch.target[name][mask].repeat_interleave(repeat, 0)
                    for name, mask in batch.predicted.items()
                }
            ),
            generator,
        )

    def embed(self, batch: TrainingBatch) -> Tensor:
        """Input embeddings (B, L, width)."""
        x = self.backbone.embed_tokens(batch.tokens) * batch.text[..., None]
        x = torch.cat([x[:, :1] + self.task_embedding(batch.task_row)[:, None], x[:, 1:]], dim=1)
        rows, length, width = x.shape
        start = torch.arange(rows, device=x.device)[:, None] * length
        x = x.flatten(0, 1)
        for name, at in batch.positions.items():
            encoded, absent = batch.encoded[name], batch.absent[name]
            tokens = self.patch_encoders[name](batch.fed[name][encoded], batch.real[name][encoded])
            x = x.index_add(0, (start + at)[encoded], tokens)
            if name == "motion":
                nowhere = (start + at)[absent]
                x = x.index_add(0, nowhere, self.motion_pad_emb[0].expand(len(nowhere), -1))
        return x.view(rows, length, width)

    def rotary(self, batch: TrainingBatch) -> Tensor:
        """Rotary positions (B, L). Slots with a known text position use it; the others use `batch.rotary`."""
        if self.reading is None:
            return batch.rotary
        plan = self.config.layout.plan(0, 0)
        rotary = batch.rotary.clone()
        sample, slot = batch.reads.nonzero(as_tuple=True)
        for behind in range(plan.stride):
            at = batch.stop_positions[sample, slot] - behind
            rotary[sample, at] = plan.rotated_at(batch.placed[sample, slot])
        return rotary

    def _reading_errors(self, hidden: Tensor, batch: TrainingBatch) -> Tensor:
        assert self.reading is not None
        stride = self.config.layout.plan(0, 0).stride
        before = (batch.stop_positions - stride).clamp(max=hidden.shape[1] - 1)
        source = hidden.gather(1, before[..., None].expand(-1, -1, hidden.shape[2]))
        reached = F.pad(batch.placed, (1, 0))[:, :-1]
        errors = F.smooth_l1_loss(self.reading(source), batch.read - reached, reduction="none")
        return torch.where(batch.reads, errors, 0.0)

    def _patch_errors(
        self, group: tuple[str, ...], hidden: Tensor, batch: TrainingBatch, draws: Draws
    ) -> dict[str, Tensor]:
        """Errors of the streams of one group, which share a position, in one call of the heads."""
        found: dict[str, Tensor] = {}
        predicted = Streams.of(group, lambda name: batch.predicted[name])
        union = torch.stack([mask for _, mask in predicted.items()]).any(0)
        sample, slot = union.nonzero(as_tuple=True)
        own = predicted.map(lambda mask: mask[union])
        counts = {name: int(mask.sum()) for name, mask in own.items()}
        repeat = max(len(draws.time[name]) // max(1, count) for name, count in counts.items())
        rows = own.map(lambda mask: mask.repeat_interleave(repeat, 0))

        def spread(name: str, drawn: Tensor) -> Tensor:
            """Put the draws of a stream's predicted patches into their rows; zeros in the other rows."""
            return drawn.new_zeros(len(rows[name]), *drawn.shape[1:]).index_put((rows[name],), drawn)

        # The hidden state before the position of the group predicts its streams.
        source = hidden[sample, batch.positions[group[0]][sample, slot] - 1]
        # The patches that were fed one slot earlier; zeros for the first slot.
        context = Streams.of(
            group, lambda name: F.pad(batch.fed[name], (0, 0, 0, 0, 1, 0))[:, :-1][sample, slot]
        )
        target = Streams.of(group, lambda name: batch.target[name][sample, slot])
        given, known = self._given(group, batch, sample, slot)

        def wide(x: Tensor) -> Tensor:
            return x.repeat_interleave(repeat, 0)

        condition = Condition(
            hidden=wide(source),
            context=context.map(wide),
            global_=Streams.of(group, lambda name: wide(batch.global_[name][sample])),
            predicted=rows,
            known=known.map(wide),
        )
        spread_draws = Draws(
            **{
                field.name: Streams.of(group, lambda name: spread(name, getattr(draws, field.name)[name]))  # noqa: B023
                for field in fields(Draws)
            }
        )
        errors = self.heads.errors(condition, target.map(wide), spread_draws, given.map(wide))
        for name in group:
            found[name] = errors[name][rows[name]].mean(-1).view(counts[name], repeat)
            if self.forecast is not None:
                own_rows = own[name]
                forecast = self.forecast(source[own_rows], name)
                found[f"forecast_{name}"] = (forecast - target[name][own_rows]).square().mean((1, 2))
        return found

    @staticmethod
    def _given(
        group: tuple[str, ...], batch: TrainingBatch, sample: Tensor, slot: Tensor
    ) -> tuple[Streams, Streams]:
        """Given patches for heads that predict both streams jointly.

        Row r is the r-th (sample, slot). Its given patch has the index of the patch that it predicts.

        Returns:
            patches (R, P, C) per stream, and a mask (R,) bool per stream of the rows that have one.
        """
        delay = batch.delay[sample]  # if positive, patch j of motion is in a later slot than that of audio
        patches, known = {}, {}
        for name in group:
            later = -delay if name == "motion" else delay
            there = batch.real[name].any(-1)[sample] & batch.given[name][sample][:, None]
            # The given patch with the same index is `later` slots earlier.
            at = slot - later
            inside = (at >= 0) & (at < there.shape[1])
            at = at.clamp(0, there.shape[1] - 1)
            exists = inside & there.gather(1, at[:, None])[:, 0]
            patches[name] = torch.where(exists[:, None, None], batch.target[name][sample, at], 0.0)
            known[name] = exists
        return Streams(**patches), Streams(**known)

    def _stop_errors(self, hidden: Tensor, batch: TrainingBatch) -> Tensor:
        labelled = batch.stop_label != IGNORED
        at = batch.stop_positions.clamp(max=hidden.shape[1] - 1)
        logits = self.stop_head(hidden.gather(1, at[..., None].expand(-1, -1, hidden.shape[2])))
        errors = F.binary_cross_entropy_with_logits(
            logits, (batch.stop_label == 1).float(), pos_weight=self.stop_weight(batch), reduction="none"
        )
        return torch.where(labelled, errors, 0.0)

    @staticmethod
    def stop_weight(batch: TrainingBatch) -> Tensor:
        """Weight of positive stop labels: 0.3 times the mean number of negative labels, as in the release."""
        return 0.3 * batch.stop_weight
