"""The talker: text and patches through one causal language model; its hidden states through two heads."""

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
    """Linear, SiLU, linear to one logit."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, width)
        self.head = nn.Linear(width, 1, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., width) of any dtype -> logits (...), float32."""
        # A product and a sum: a matrix product with one output rounds a row by its index in the batch.
        return (F.silu(self.proj(hidden.float())) * self.head.weight[0]).sum(-1)


class Forecast(nn.Module):
    """The next patch straight from the hidden state: a training aid, absent from generation.

    Its plain regression reaches the backbone long before the heads have learned to use a hidden state.
    """

    def __init__(self, width: int, inner: int, frames: int, channels: dict[str, int]) -> None:
        super().__init__()
        self.frames = frames
        self.inner = nn.Linear(width, inner)
        self.out = nn.ModuleDict({name: nn.Linear(inner, frames * c) for name, c in channels.items()})

    def forward(self, hidden: Tensor, stream: str) -> Tensor:
        """(R, width) -> (R, P, C)"""
        return self.out[stream](F.gelu(self.inner(hidden))).unflatten(-1, (self.frames, -1))


class Reading(nn.Module):
    """How many text tokens will be spoken from where the last slot was placed to the end of the next one.

    Not part of the published model. The next slot is rotated as if it sat at that text token, so that to
    read on is to look at one's own position. The answer is a correction as much as a pace: trained from
    places that were shaken, it returns to the right one.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, inner)
        self.head = nn.Linear(inner, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., width) of any dtype -> text tokens (...), float32."""
        return (F.silu(self.proj(hidden.float())) * self.head.weight[0]).sum(-1) + self.head.bias[0]


class TalkerModel(nn.Module):
    """Text + patches so far -> the next patch of both streams. Works on normalised latents."""

    def __init__(self, config: TalkerConfig, heads: nn.Module | None = None) -> None:
        """`heads`: any `heads.head.Head` made for `config.heads`; None: what `config.heads` describes."""
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
        self.reading = Reading(width, config.reading) if config.reading else None
        self.forecast = (
            Forecast(width, config.forecast, config.patch_frames, config.widths) if config.forecast else None
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.motion_pad_emb.device

    def cast(self, dtype: torch.dtype) -> TalkerModel:
        """Convert the weights in place, except the few that must stay float32: the latent statistics, and the
        two networks that answer with one number a row (stop predictor, alignment).
        """
        for name, child in self.named_children():
            if name not in ("stats", "stop_head", "reading"):
                child.to(dtype)
        self.motion_pad_emb.data = self.motion_pad_emb.data.to(dtype)
        return self

    # -- training ------------------------------------------------------------------------------------------

    def forward(self, batch: TrainingBatch, draws: Draws) -> dict[str, Tensor]:
        """Unreduced errors; weights and reduction belong to the recipe.

        Args:
            batch: B samples; `draws`: for R predicted patches of a stream, drawn k times each: k R rows,
                copies of a patch adjacent (see `draws`).

        Returns:
            audio, motion: (R, k) squared velocity errors, mean over the patch, rows ordered by sample,
                then slot;
            forecast_audio, forecast_motion: (R,) where the config has that aid;
            stop: (B, S) cross-entropies, 0 where there is no label;
            reading: (B, S) errors in text tokens, 0 where the truth is unknown, where the config has that
                network.
        """
        hidden = self.backbone(self.embed(batch), self.rotary(batch))
        found = {"stop": self._stop_errors(hidden, batch)}
        if self.reading is not None:
            found["reading"] = self._reading_errors(hidden, batch)
        for group in self.config.layout.groups:
            found |= self._patch_errors(group, hidden, batch, draws)
        return found

    def draws(self, batch: TrainingBatch, generator: torch.Generator, repeat: int = 2) -> Draws:
        """Draws for `forward`, `repeat` (the release's k: 2) for every predicted patch."""
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
        for name, at in batch.at.items():
            encoded, absent = batch.encoded[name], batch.absent[name]
            tokens = self.patch_encoders[name](batch.fed[name][encoded], batch.real[name][encoded])
            x = x.index_add(0, (start + at)[encoded], tokens)
            if name == "motion":
                nowhere = (start + at)[absent]
                x = x.index_add(0, nowhere, self.motion_pad_emb[0].expand(len(nowhere), -1))
        return x.view(rows, length, width)

    def rotary(self, batch: TrainingBatch) -> Tensor:
        """Rotary positions (B, L): slots whose reading is known sit on the text's axis."""
        if self.reading is None:
            return batch.rotary
        plan = self.config.layout.plan(0, 0)
        rotary = batch.rotary.clone()
        sample, slot = batch.reads.nonzero(as_tuple=True)
        for behind in range(plan.stride):
            at = batch.stop_at[sample, slot] - behind
            rotary[sample, at] = plan.rotated_at(batch.placed[sample, slot])
        return rotary

    def _reading_errors(self, hidden: Tensor, batch: TrainingBatch) -> Tensor:
        assert self.reading is not None
        stride = self.config.layout.plan(0, 0).stride
        before = (batch.stop_at - stride).clamp(max=hidden.shape[1] - 1)
        source = hidden.gather(1, before[..., None].expand(-1, -1, hidden.shape[2]))
        reached = F.pad(batch.placed, (1, 0))[:, :-1]
        errors = F.smooth_l1_loss(self.reading(source), batch.read - reached, reduction="none")
        return torch.where(batch.reads, errors, 0.0)

    def _patch_errors(
        self, group: tuple[str, ...], hidden: Tensor, batch: TrainingBatch, draws: Draws
    ) -> dict[str, Tensor]:
        """Errors of the streams that share a position, in one call of the head."""
        found: dict[str, Tensor] = {}
        predicted = Streams.of(group, lambda name: batch.predicted[name])
        union = torch.stack([mask for _, mask in predicted.items()]).any(0)
        sample, slot = union.nonzero(as_tuple=True)
        own = predicted.map(lambda mask: mask[union])
        counts = {name: int(mask.sum()) for name, mask in own.items()}
        repeat = max(len(draws.time[name]) // max(1, count) for name, count in counts.items())
        rows = own.map(lambda mask: mask.repeat_interleave(repeat, 0))

        def spread(name: str, drawn: Tensor) -> Tensor:
            """Draws of a stream's own patches, (k R_name, ...), at their rows among all; zeros elsewhere."""
            return drawn.new_zeros(len(rows[name]), *drawn.shape[1:]).index_put((rows[name],), drawn)

        # The streams of a group have one position, whose predecessor predicts them.
        source = hidden[sample, batch.at[group[0]][sample, slot] - 1]
        # What was fed one slot earlier; the first slot has no predecessor.
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
        """The given patches (R, P, C) of the same number as the one that row r = (sample, slot) predicts, and
        where there is one (R,): for heads that predict both streams together.
        """
        delay = batch.delay[sample]  # of motion; where positive, motion's patch j stands in a later slot
        patches, known = {}, {}
        for name in group:
            later = -delay if name == "motion" else delay
            there = batch.real[name].any(-1)[sample] & batch.given[name][sample][:, None]
            # The other stream's patch of the same number stands `later` slots before.
            at = slot - later
            inside = (at >= 0) & (at < there.shape[1])
            at = at.clamp(0, there.shape[1] - 1)
            exists = inside & there.gather(1, at[:, None])[:, 0]
            patches[name] = torch.where(exists[:, None, None], batch.target[name][sample, at], 0.0)
            known[name] = exists
        return Streams(**patches), Streams(**known)

    def _stop_errors(self, hidden: Tensor, batch: TrainingBatch) -> Tensor:
        labelled = batch.stop_label != IGNORED
        at = batch.stop_at.clamp(max=hidden.shape[1] - 1)
        logits = self.stop_head(hidden.gather(1, at[..., None].expand(-1, -1, hidden.shape[2])))
        errors = F.binary_cross_entropy_with_logits(
            logits, (batch.stop_label == 1).float(), pos_weight=self.stop_weight(batch), reduction="none"
        )
        return torch.where(labelled, errors, 0.0)

    @staticmethod
    def stop_weight(batch: TrainingBatch) -> Tensor:
        """Weight of a positive stop label: the release's 0.3 x negatives a sample."""
        return 0.3 * batch.stop_weight
