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
class GuardRule:
    """Thresholds of the guards, which end speech after long silence or repetition.

    Distances are root mean squares over normalised channels.

    Args:
        near_quiet: a frame is silent if its distance to the latent of digital silence is at most this.
        silent_seconds: duration of consecutive silence that ends the speech.
        window_seconds: length of the window that is compared with the window one period earlier.
        periods_seconds: shortest and longest period that are compared. Shorter periods would match slow
            vowels, whose successive frames are similar. A constant sound matches every period.
        alike: the window repeats if its distance to the window one period earlier is below this. Unrelated
            frames have a distance of about 1.4, two draws of one poorly learned patch of about 0.7.
    """

    near_quiet: float = 0.5
    silent_seconds: float = 2.0
    window_seconds: float = 2.0
    periods_seconds: tuple[float, float] = (0.12, 2.0)
    alike: float = 0.75


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Default settings of a checkpoint.

    Fields that a config file lacks have the values of the default model: older versions did not write them.

    Args:
        sampling: settings of the solver.
        stop: rule by which the stop predictor ends the speech.
        pace: speech rates; None if tokens have no typical duration (word pieces).
        max_frames: greatest number of frames per request; None: no limit.
        guard: thresholds of the guards, which depend on the codec; None: no guards.
    """

    sampling: Sampling = field(default_factory=Sampling.puppet)
    stop: StopRule = field(default_factory=StopRule.paper)
    pace: Pace | None = field(default_factory=Pace)
    max_frames: int | None = None
    guard: GuardRule | None = field(default_factory=GuardRule)

    @classmethod
    def release(cls) -> Defaults:
        """Settings of the released command line: at most 30 s of speech."""
        sampling, stop = Sampling.release(), StopRule.release()
        return cls(sampling=sampling, stop=stop, pace=None, max_frames=752, guard=None)
