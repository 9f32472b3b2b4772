"""Default generation settings of a checkpoint, which are stored in its config.json."""

from __future__ import annotations

from dataclasses import dataclass, field

from heads.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class StopRule:
    """Rule by which the stop predictor ends the speech.

    Args:
        threshold: a patch whose stop probability is at least this is a hit.
        hits: number of consecutive hits that end the speech.
        first: number of patches that are generated before the predictor is used.
    """

    threshold: float = 0.5
    hits: int = 1
    first: int = 0

    @classmethod
    def paper(cls) -> StopRule:
        """One hit with a probability of at least 0.5."""
        return cls()

    @classmethod
    def release(cls) -> StopRule:
        """Three consecutive hits after the first seven patches, so speech has at least nine patches."""
        return cls(hits=3, first=7)

    @classmethod
    def never(cls) -> StopRule:
        """Never stop before the greatest length."""
        return cls(threshold=2.0)


STOP_RULES = {"paper": StopRule.paper(), "release": StopRule.release()}


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Speech rates in seconds per text token.

    Args:
        fastest: least duration of a token.
        usual: average duration of a token.
        slowest: greatest duration of a token. Generation is limited to the duration of the text at this rate
            plus `pauses`.
        pauses: seconds added to the limit.
    """

    fastest: float = 0.045
    usual: float = 0.08
    slowest: float = 0.2
    pauses: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Default settings of a checkpoint.

    Args:
        sampling: settings of the solver.
        stop: rule by which the stop predictor ends the speech.
        pace: speech rates; None if tokens have no typical duration (word pieces).
        max_frames: greatest number of frames per request; None: no limit.
    """

    sampling: Sampling = field(default_factory=Sampling.puppet)
    stop: StopRule = field(default_factory=StopRule.paper)
    pace: Pace | None = field(default_factory=Pace)
    max_frames: int | None = None

    @classmethod
    def release(cls) -> Defaults:
        """Settings of the released command line: at most 30 s of speech."""
        return cls(sampling=Sampling.release(), stop=StopRule.release(), pace=None, max_frames=752)
