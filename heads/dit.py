"""Two independent diffusion transformers (DiT) that predict the next patch of each stream.

The tokens of a DiT are [hidden state + time] [global condition] [previous patch] [noisy patch]. Its output is
the velocity of the noisy patch. Module names follow the published checkpoint (`speech_cfm.estimator.*`,
`motion_cfm.estimator.*`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heads.config import DiTConfig, TwoDiTHeadsConfig
from heads.flow import Draws, on_path, velocity_target
from heads.head import Condition
from heads.layers import Block, RMSNorm
from heads.rope import Rope
from heads.sampling import Sampling
from heads.solver import euler, euler_steps, guide
from heads.streams import NO_STREAMS, Streams


def sinusoid(time: Tensor, width: int) -> Tensor:
    """Embed times t (B,) in [0, 1] as (B, width): sines, then cosines, of 1000 t at width / 2 frequencies."""
    half = width // 2
    exponent = torch.arange(half, device=time.device, dtype=time.dtype) * -(math.log(10000.0) / (half - 1))
    angle = 1000.0 * time[:, None] * exponent.exp()
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class TimeMLP(nn.Module):
    """Linear, SiLU, linear on a time embedding."""

    def __init__(self, width: int) -> None:
        """`width`: of input and output."""
        super().__init__()
        self.linear_1 = nn.Linear(width, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, width) -> (B, width)"""
        return self.linear_2(F.silu(self.linear_1(embedding)))


class Decoder(nn.Module):
    """The bidirectional transformer of a DiT."""

    def __init__(self, width: int, layers: int, heads: int, ffn: int) -> None:
        """`ffn`: inner width of the MLPs."""
        super().__init__()
        self.input_proj = nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block(width, heads, ffn) for _ in range(layers))
        self.norm = RMSNorm(width)
        self.rope = Rope(width // heads)

    def forward(self, tokens: Tensor, last: int) -> Tensor:
        """Outputs (B, last, width) of the last tokens of (B, T, width). The final block skips the others."""
        rotation = self.rope(tokens.shape[1])
        x = self.input_proj(tokens)
        for block in self.blocks[:-1]:
            x = block(x, rotation)
        return self.norm(self.blocks[-1](x, rotation, last))


@dataclass(frozen=True)
class Fixed:
    """Inputs of a DiT that are the same in every solver step of a patch.

    Attributes:
        hidden: (B, width) projected hidden state.
        known: (B, 1 + P, width) tokens of the global condition and the previous patch.
        added: (B, 1, width) projected hidden state that is added to the noisy tokens, or None.
    """

    hidden: Tensor
    known: Tensor
    added: Tensor | None


class DiT(nn.Module):
    """Diffusion transformer that predicts the velocity of the patch of one stream."""

    def __init__(self, config: DiTConfig) -> None:
        """`config`: the sizes."""
        super().__init__()
        self.config = config
        width = config.width
        if config.hidden_width != width:
            # No bias, so that a dropped hidden state is zero before and after the projection.
            self.hidden_proj: nn.Module = nn.Linear(config.hidden_width, width, bias=False)
        else:
            self.hidden_proj = nn.Identity()
        if config.hidden_to_tokens:
            self.token_proj = nn.Linear(config.hidden_width, width, bias=False)
        self.in_proj = nn.Linear(config.channels, width)
        self.cond_proj = nn.Linear(config.channels, width)
        self.global_cond_proj = nn.Linear(config.global_channels, width)
        self.out_proj = nn.Linear(width, config.channels)
        self.time_mlp = TimeMLP(width)
        self.delta_time_mlp = TimeMLP(width)
        self.decoder = Decoder(width, config.layers, config.heads, config.ffn)

    def time_token(self, time: Tensor) -> Tensor:
        """Time tokens (B, width) of times (B,) float32.

        The input of `delta_time_mlp` is always 0, but its output is part of the sum in the published model.
        """
        # The embedding multiplies times by 1000, for which half precision would be too coarse.
        embedding = sinusoid(time, self.config.width).to(self.in_proj.weight.dtype)
        no_step = sinusoid(torch.zeros_like(time[:1]), self.config.width).to(embedding.dtype)
        return self.time_mlp(embedding) + self.delta_time_mlp(no_step)

    def fixed(self, hidden: Tensor, context: Tensor, global_: Tensor) -> Fixed:
        """Compute the inputs that are the same in every solver step.

        Args:
            hidden: (B, D) hidden state.
            context: (B, P, C) previous patch.
            global_: (B, G) global condition.
        """
        dtype = self.in_proj.weight.dtype
        hidden, context, global_ = hidden.to(dtype), context.to(dtype), global_.to(dtype)
        known = torch.cat([self.global_cond_proj(global_)[:, None], self.cond_proj(context)], dim=1)
        added = self.token_proj(hidden)[:, None] if self.config.hidden_to_tokens else None
        return Fixed(self.hidden_proj(hidden), known, added)

    def velocity(self, x: Tensor, time_token: Tensor, fixed: Fixed) -> Tensor:
        """Velocity (B, P, C), float32, at x (B, P, C). `time_token`: (B or 1, width)."""
        noisy = self.in_proj(x.to(time_token.dtype))
        if fixed.added is not None:
            noisy = noisy + fixed.added
        first = fixed.hidden + time_token
        tokens = torch.cat([first[:, None], fixed.known, noisy], dim=1)
        return self.out_proj(self.decoder(tokens, x.shape[1])).float()

    def forward(self, x: Tensor, time: Tensor, hidden: Tensor, context: Tensor, global_: Tensor) -> Tensor:
        """Velocity (B, P, C), float32, at x (B, P, C).

        Args:
            x: (B, P, C) noisy patch.
            time: (B,) or (1,).
            hidden: (B, D) hidden state.
            context: (B, P, C) previous patch.
            global_: (B, G) global condition.
        """
        return self.velocity(x, self.time_token(time), self.fixed(hidden, context, global_))


def _twice(x: Tensor) -> Tensor:
    return torch.cat([x, x])


def _guide(both: Tensor, sampling: Sampling) -> Tensor:
    conditional, unconditional = both.chunk(2)
    return guide(conditional, unconditional, sampling.guidance, sampling.zero_star)


class TwoDiTHeads(nn.Module):
    """The published heads: one DiT per stream. Both have the same hidden state and are independent."""

    def __init__(self, config: TwoDiTHeadsConfig) -> None:
        """`config`: the sizes; a stream without sizes has no DiT."""
        super().__init__()
        self.config = config
        for name, own in (("audio", config.audio), ("motion", config.motion)):
            if own is not None:
                self.add_module(name, DiT(own))

    def _dit(self, name: str) -> DiT:
        dit = self.get_submodule(name)
        assert isinstance(dit, DiT)
        return dit

    def errors(
        self, condition: Condition, target: Streams, draws: Draws, given: Streams = NO_STREAMS
    ) -> Streams:
        """Squared velocity errors, mean over channels; see `Head.errors`. Does not use given streams."""
        return Streams.of(target.names, lambda name: self._errors(name, condition, target[name], draws))

    def _errors(self, name: str, condition: Condition, target: Tensor, draws: Draws) -> Tensor:
        rows = None if condition.predicted is None else condition.predicted[name].nonzero()[:, 0]

        def own(x: Tensor) -> Tensor:
            return x if rows is None else x[rows]

        data, noise, time = own(target), own(draws.noise[name]), own(draws.time[name])
        velocity = self._dit(name)(
            on_path(data, noise, time),
            time,
            own(condition.hidden) * own(draws.keep_hidden[name])[:, None],
            own(condition.context[name]) * own(draws.keep_context[name])[:, None, None],
            own(condition.global_[name]),
        )
        errors = (velocity - velocity_target(data, noise)).square().mean(-1)
        if rows is None:
            return errors
        return errors.new_zeros(target.shape[:2]).index_put((rows,), errors)

    def constants(self, sampling: Sampling) -> dict[str, dict[float, Tensor]]:
        """Time token (1, width) of every solver step, by stream and time."""
        times = [time for time, _ in euler_steps(sampling)]
        return {name: {time: self._token(name, time) for time in times} for name, _ in self.named_children()}

    def _token(self, name: str, time: float) -> Tensor:
        dit = self._dit(name)
        token: Tensor = dit.time_token(torch.full((1,), time, device=dit.in_proj.weight.device))
        return token

    def sample(
        self,
        condition: Condition,
        noise: Streams,
        sampling: Sampling,
        given: Streams = NO_STREAMS,
        constants: dict[str, dict[float, Tensor]] | None = None,
    ) -> Streams:
        """Solve with guided Euler steps; see `Head.sample`. Does not use given streams."""
        tokens = self.constants(sampling) if constants is None else constants
        guided = sampling.guidance != 1
        hidden = condition.hidden
        if guided:  # one batch of 2 B rows; the hidden state of the second half is zero
            hidden = torch.cat([hidden, torch.zeros_like(hidden)])
        widen: Callable[[Tensor], Tensor] = _twice if guided else lambda x: x
        fixed = {
            name: self._dit(name).fixed(
                hidden, widen(condition.context[name]), widen(condition.global_[name])
            )
            for name in noise.names
        }

        def velocity(x: Streams, time: float) -> Streams:
            return Streams.of(
                x.names,
                lambda name: self._dit(name).velocity(widen(x[name]), tokens[name][time], fixed[name]),
            )

        def guided_velocity(x: Streams, time: float) -> Streams:
            return velocity(x, time).map(lambda both: _guide(both, sampling))

        return euler(guided_velocity if guided else velocity, noise, sampling)
