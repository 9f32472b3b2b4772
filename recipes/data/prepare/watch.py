"""A first pass over a raw video: where the face is, what is heard, and which stretches are worth keeping."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from recipes.data.prepare.detect import Detector
from recipes.data.transcript import Cue, Span, spans
from talker.clips.windows import LONGEST_SECONDS, at_pauses
from talker.clock import FRAME_RATE, SAMPLE_RATE
from talker.media.audio import CLOSED, decoded_frames
from talker.media.face import Box, find_faces
from talker.media.face_track import EVERY, FaceTrack, followed, steady
from talker.media.sound import Survey, pieces, surveyed
from talker.media.video import Reel

COUNT_EVERY = 4  # looks between two searches of the whole picture: about two seconds
AS_LARGE = 0.6  # another face of this share of the first one's side speaks perhaps, too
MOST_LOST, MOST_COMPANY = 0.2, 0.3  # shares of a clip's looks
JUMP = 0.6  # of the face's side between two looks: another face
CUT = 0.08  # mean change of a small picture from frame to frame: another shot
THUMBNAIL = 32  # pixels
MOST_SHIFT = 60.0  # seconds between the first sound and the first picture
MARGIN = 6  # frames of silence kept around speech
SHORTEST = 25  # frames
SLACK_SECONDS = 0.25  # by which words may outlast their video
MISSING = 0.05  # share of a file's claimed length
MOST_UNPAIRED = 0.3  # seconds of sound that may be left out before a whole text is none of what is kept


class Refused(Exception):  # noqa: N818 - an outcome, not a fault
    """A whole video is of no use; the first argument is the reason, the second, if any, says more."""


@dataclass(frozen=True)
class Watched:
    """What there is to see and to hear in a video, at 25 frames a second.

    Attributes:
        track: where the face is.
        looks: the face as seen every `EVERY` frames; None where it was not.
        company: by number of a look, whether another face of its size was there; few looks are asked.
        shots: (first, last + 1) frames of each; what is next to a cut, and so not well framed, is in none.
        heard: length and loudness of the sound, from the first picture on.
        shift: seconds by which the sound begins after the first picture.
        unpaired: seconds of sound that no picture goes with, or that the header claims and nobody can read.
    """

    track: FaceTrack
    looks: tuple[Box | None, ...]
    company: dict[int, bool]
    shots: tuple[tuple[int, int], ...]
    heard: Survey
    shift: float
    unpaired: float

    @property
    def frames(self) -> int:
        """Frames with both picture and sound."""
        return min(round(self.track.seconds * FRAME_RATE), self.heard.frames)

    def fault(self, first: int, last: int, resolution: int) -> str | None:
        """Why frames first..last-1 make no clip; None if they do."""
        if last - first < SHORTEST:
            return "too short"
        numbers = range(first // EVERY, min(-(-last // EVERY), len(self.looks)))
        looks = [self.looks[n] for n in numbers]
        if sum(look is None for look in looks) > MOST_LOST * len(looks):
            return "no face"
        asked = [self.company[n] for n in range(min(numbers), max(numbers) + 1) if n in self.company]
        if asked and np.mean(asked) > MOST_COMPANY:
            return "several faces"
        seen = [look for look in looks if look is not None]
        if any(math.dist(a.centre, b.centre) > JUMP * max(a.side, b.side) for a, b in pairwise(seen)):
            return "face jumps"
        side = np.median([self.track.square(n * EVERY).side for n in numbers])
        return "face too small" if side < resolution / 2 else None


def watch(path: Path, detector: Detector | None) -> Watched:
    """Look and listen once.

    Raises:
        Refused: empty, without picture or sound, cut off, without any face.
        UserError: unreadable.
    """
    if not path.stat().st_size:
        raise Refused("unreadable", "the file is empty")
    claimed, claimed_sound, sound_start = _probe(path)
    reel = Reel(path)
    looks: list[Box | None] = []
    company: dict[int, bool] = {}
    cuts, since, size, before, number = [0], 0, (0, 0), None, 0
    for number, frame in enumerate(reel):
        size, small = (frame.shape[1], frame.shape[0]), _thumbnail(frame)
        if before is not None and np.abs(small - before).mean() > CUT:
            cuts.append(number)
            since = len(looks)  # who was seen before is not looked for
        before = small
        if number % EVERY == 0:
            face, others = _look(Image.fromarray(frame), looks[since:], detector)
            if others is not None:
                company[len(looks)] = others
            looks.append(face)
    shift = sound_start - float(reel.start)
    if abs(shift) > MOST_SHIFT:
        raise Refused("unreadable", f"sound and picture begin {abs(shift):.0f} s apart")
    heard = surveyed(sound(path, shift))
    # A header counts from zero, and what was read from the first picture on.
    length = float(reel.start) + max(float(reel.seconds), heard.seconds)
    unread = claimed - length
    if unread > max(0.5, MISSING * claimed):
        raise Refused("truncated", f"{length:.1f} s of {claimed:.1f} s can be read")
    if not any(looks):
        raise Refused("no face")
    if not heard.speaks.any():
        raise Refused("silent")
    squares, shots = _framed(looks, [*cuts, number + 1], size)
    after = heard.speaks[round(reel.seconds * FRAME_RATE) :].sum() / FRAME_RATE
    unpaired = max(unread, claimed_sound - (heard.seconds - shift), after + max(0.0, -shift))
    track = FaceTrack(reel.start, reel.seconds, squares)
    return Watched(track, tuple(looks), company, shots, heard, shift, unpaired)


def sound(path: Path, shift: float) -> Iterator[Tensor]:
    """Samples (n,) at 24 kHz from the time of the first picture on, `shift` seconds before the first
    sound."""
    late = round(shift * SAMPLE_RATE)
    if late > 0:
        yield torch.zeros(late)
    skip = max(0, -late)
    for piece in pieces(path):
        if skip < len(piece):
            yield piece[skip:]
        skip = max(0, skip - len(piece))


def stretches(watched: Watched, cues: Sequence[Cue]) -> tuple[list[Span], dict[str, int]]:
    """Where to cut, at transcript times if there are any, else at silences; and what is lost by it, counted.

    Nothing extends over two shots. A transcript without times covers all that is heard, so that must be one
    shot that fits into one clip.
    """
    frames = watched.frames
    # Transcripts count from whichever comes first, sound or picture.
    timed = [cue.shifted(min(0.0, watched.shift)) for cue in cues if math.isfinite(cue.end)]
    if cues and not timed and (frames > LONGEST_SECONDS * FRAME_RATE or len(watched.shots) > 1):
        return [], {"long or of many shots, and its transcript has no times": 1}
    if cues and not timed and watched.unpaired > MOST_UNPAIRED:
        return [], {"sound without picture or cut short, and its transcript has no times": 1}
    found: list[Span] = []
    said = 0
    for first, last in watched.shots:
        start, end = first / FRAME_RATE, min(last, frames) / FRAME_RATE
        if not timed:
            found += _between_silences(watched.heard.speaks[first : min(last, frames)], start, cues)
            continue
        late = SLACK_SECONDS if last >= frames else 0.0
        inside = [cue for cue in timed if start <= cue.start and cue.end <= end + late]
        for span in spans(inside, end)[0]:
            found.append(Span(max(span.start, start), span.end, span.cues))
            said += len(span.cues)
    lost = len(timed) - said
    return found, {"words across a cut, too long or out of time": lost} if lost else {}


def _between_silences(speaks: np.ndarray, start: float, cues: Sequence[Cue]) -> list[Span]:
    """Stretches of the frames from `start` (seconds) on; all of an untimed transcript is said in them."""
    found, first = [], 0
    for length in at_pauses(speaks, 1):
        spoken = first + np.flatnonzero(speaks[first : first + length])
        if len(spoken):
            begin = start + max(first, int(spoken[0]) - MARGIN) / FRAME_RATE
            end = start + min(first + length, int(spoken[-1]) + 1 + MARGIN) / FRAME_RATE
            found.append(Span(begin, end, (Cue(begin, end, cues[0].text),) if cues else ()))
        first += length
    return found


def _framed(
    looks: list[Box | None], borders: list[int], size: tuple[int, int]
) -> tuple[tuple[Box, ...], tuple[tuple[int, int], ...]]:
    """A steady square for each look, shot by shot, and the shots; `borders` are the cuts and both ends."""
    squares: list[Box] = []
    shots = []
    for first, stop in pairwise(borders):
        own = looks[-(-first // EVERY) : -(-stop // EVERY)]
        # Where a shot shows no face any square will do: it gives no clip.
        squares += steady(own if any(own) else [Box(0, 0, min(size))] * len(own), size) if own else ()
        # Squares are mixed from one look to the next, so across a cut they belong to no shot.
        begin = first if first == 0 else -(-first // EVERY) * EVERY
        end = stop if stop == borders[-1] else (stop - 1) // EVERY * EVERY + 1
        if begin < end:
            shots.append((begin, end))
    return tuple(squares), tuple(shots)


def _probe(path: Path) -> tuple[float, float, float]:
    """In seconds: the end of everything and the length of the sound, as the header claims them (0: it does
    not), and the time of the first sound."""
    with path.open("rb") as file, av.open(file, "r", options=CLOSED) as container:
        if not container.streams.video:
            raise Refused("no picture")
        if not container.streams.audio:
            raise Refused("no sound")
        claimed, track = (container.duration or 0) / av.time_base, container.streams.audio[0]
        claimed_sound = Fraction(track.duration or 0) * Fraction(track.time_base or 0)
        first = next(decoded_frames(container), None)
    if first is None:
        raise Refused("no sound")
    start = Fraction(first.pts or 0) * Fraction(first.time_base or 0)
    return claimed, float(claimed_sound), float(start)


def _look(
    picture: Image.Image, looks: Sequence[Box | None], detector: Detector | None
) -> tuple[Box | None, bool | None]:
    """The face that is followed, and whether others of its size are there (None: nobody counted)."""
    if detector is None and len(looks) % COUNT_EVERY:
        return followed(picture, looks), None
    faces = (detector or find_faces)(picture)
    if not faces:
        return None, False
    last = next((look for look in reversed(looks) if look is not None), None)
    face = next((one for one in faces if last is not None and last.holds(one.centre)), faces[0])
    return face, any(other is not face and other.side > AS_LARGE * face.side for other in faces)


def _thumbnail(frame: np.ndarray) -> np.ndarray:
    """A frame (H, W, 3) as (32, 32, 3) in [0, 1], by picking pixels."""
    rows, columns = (np.linspace(0, length - 1, THUMBNAIL).round().astype(int) for length in frame.shape[:2])
    return frame[rows[:, None], columns].astype(np.float32) / 255
