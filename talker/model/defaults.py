"""How weights want to be used: settings that belong to a checkpoint and are stored in its config.json."""

from __future__ import annotations

from dataclasses import dataclass, field

from heads.solver import Sampling


@dataclass(frozen=True, kw_only=True)
class StopRule:
    """When the stop predictor ends the speech.

    Args:
        threshold: probability from which on a patch counts as a hit.
        hits: consecutive hits that end the speech; a miss resets the count.
        first: number of patches generated before the predictor is asked.
    """

    threshold: float = 0.5
    hits: int = 1
    first: int = 0

    @classmethod
    def paper(cls) -> StopRule:
        """One hit at one half."""
        return cls()

    @classmethod
    def release(cls) -> StopRule:
        """Three hits in a row, asked after seven patches: so at patch nine at the earliest."""
        return cls(hits=3, first=7)

    @classmethod
    def never(cls) -> StopRule:
        """Run to the limit."""
        return cls(threshold=2.0)


STOP_RULES = {"paper": StopRule.paper(), "release": StopRule.release()}


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Speech rates, in seconds a text token.

    Args:
        fastest: no text is spoken faster.
        usual: the average.
        slowest: generation is cut where speech at this rate, plus `pauses` seconds, would have ended.
    """

    fastest: float = 0.045
    usual: float = 0.08
    slowest: float = 0.2
    pauses: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Settings that fit the weights.

    Args:
        sampling: how a patch is drawn.
        stop: when the stop predictor ends the speech.
        pace: speech rates; None where a token says nothing about duration (word pieces).
        max_frames: the longest speech generated in one piece, in frames.
    """

    sampling: Sampling = field(default_factory=Sampling.puppet)
    stop: StopRule = field(default_factory=StopRule.paper)
    pace: Pace | None = field(default_factory=Pace)
    max_frames: int | None = None

    @classmethod
    def release(cls) -> Defaults:
        """As the released command line runs: at most 30 s."""
        return cls(sampling=Sampling.release(), stop=StopRule.release(), pace=None, max_frames=752)
