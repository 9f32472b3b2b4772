"""First pass over a raw video: track the face, measure the sound, and choose the spans to keep."""

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

from recipes.data.faults import foreign
from recipes.data.prepare.detect import Detector
from recipes.data.transcript import Cue, Span, spans
from talker.clips.windows import LONGEST_SECONDS, at_pauses
from talker.clock import FRAME_RATE, SAMPLE_RATE
from talker.media.face import Box, find_faces
from talker.media.face_track import (
    DETECTION_INTERVAL,
    TURNED_TRIES,
    FaceTrack,
    smooth_squares,
    track_face,
    turn_upright,
)
from talker.media.loudness import LoudnessProfile, loudness_profile
from talker.media.pixels import from_uint8
from talker.media.readers import VideoReader, stream_audio
from talker.media.sound import decode_audio
from talker.media.tracks import Damage, find_picture, find_sound_track, is_cut, open_media

COUNT_EVERY = 4  # the whole picture is searched at every fourth detection: about every two seconds
AS_LARGE = 0.6  # a second face counts from this share of the first one's side: it may be the speaker
MOST_LOST, MOST_SEVERAL = 0.2, 0.3  # shares of a clip's detections without a face, or with several faces
JUMP = 0.6  # distance between two detections, as a share of the face's side, that means another face
CUT = 0.08  # mean change of a thumbnail between two frames that means another shot
THUMBNAIL = 32  # side in pixels
MOST_SHIFT = 60.0  # seconds between the first sound and the first picture
MARGIN = 6  # frames of silence kept around speech
SHORTEST = 25  # frames of a clip
SLACK_SECONDS = 0.25  # by which the last word may end after the video
# Reasons why cues are left out.
ACROSS, NOT_ENGLISH = "words across a cut, too long or out of time", "cue that is not English"
MOST_UNPAIRED = 0.3  # seconds of sound that may lack a picture where the transcript has no times


class Rejected(Exception):  # noqa: N818 - an expected outcome, not an error
    """A whole video is left out. Arguments: the reason, and optionally a detail."""


@dataclass(frozen=True)
class Analysis:
    """Faces, shots and sound of a video, at 25 frames per second.

    Attributes:
        track: the squares to crop.
        detections: the face at every `DETECTION_INTERVAL`-th frame; None where none was found.
        several: whether there was a second face of similar size, by number of the detection; only some
            detections are checked.
        shots: (first, last + 1) frames of each shot. Frames close to a cut are in no shot, because their
            squares are interpolated across the cut.
        survey: length and loudness of the sound, from the first picture on.
        shift: seconds by which the sound starts after the first picture.
        unpaired: seconds of sound without a picture, or that the header states but that cannot be read.
        damaged: times, in seconds after the first picture, of what cannot be decoded.
        damage: how much of the picture and of the sound that is; empty if nothing.
    """

    track: FaceTrack
    detections: tuple[Box | None, ...]
    several: dict[int, bool]
    shots: tuple[tuple[int, int], ...]
    survey: LoudnessProfile
    shift: float
    unpaired: float
    damaged: tuple[float, ...] = ()
    damage: str = ""

    @property
    def frames(self) -> int:
        """Number of frames with both picture and sound."""
        return min(round(self.track.seconds * FRAME_RATE), self.survey.frames)

    def fault(self, first: int, last: int, resolution: int) -> str | None:
        """The reason why frames first..last - 1 cannot become a clip of side `resolution`, or None."""
        if last - first < SHORTEST:
            return "too short"
        if any(first <= time * FRAME_RATE < last for time in self.damaged):
            return "damaged"
        numbers = range(
            first // DETECTION_INTERVAL, min(-(-last // DETECTION_INTERVAL), len(self.detections))
        )
        detections = [self.detections[n] for n in numbers]
        if sum(face is None for face in detections) > MOST_LOST * len(detections):
            return "no face"
        checked = [self.several[n] for n in numbers if n in self.several]
        if checked and np.mean(checked) > MOST_SEVERAL:
            return "several faces"
        faces = [face for face in detections if face is not None]
        if any(math.dist(a.centre, b.centre) > JUMP * max(a.side, b.side) for a, b in pairwise(faces)):
            return "face jumps"
        side = np.median([self.track.square(n * DETECTION_INTERVAL).side for n in numbers])
        return "face too small" if side < resolution / 2 else None


def analyse(path: Path, detector: Detector | None) -> Analysis:
    """Read a video once, pictures and sound.

    Args:
        path: the video.
        detector: finds the faces in a picture; None: the built-in detector, with tracking in between.

    Raises:
        Rejected: the video is empty or truncated, or has no picture, no sound, no speech or no face.
        UserError: the video cannot be read.
    """
    if not path.stat().st_size:
        raise Rejected("unreadable", "the file is empty")
    claimed, claimed_sound, sound_start = _probe(path)
    video = VideoReader(path)
    detections: list[Box | None] = []
    several: dict[int, bool] = {}
    cuts, since, size, before, number = [0], 0, (0, 0), None, 0
    for number, frame in enumerate(video):
        detects = number % DETECTION_INTERVAL == 0
        if detects and detector is None and not any(detections) and len(detections) < TURNED_TRIES:
            frame = np.asarray(turn_upright(Image.fromarray(frame), video)[0])
        size, small = (frame.shape[1], frame.shape[0]), _thumbnail(frame)
        if before is not None and np.abs(small - before).mean() > CUT:
            cuts.append(number)
            since = len(detections)  # faces of the previous shot are not tracked further
        before = small
        if detects:
            face, others = _detect(Image.fromarray(frame), detections[since:], detector)
            if others is not None:
                several[len(detections)] = others
            detections.append(face)
    shift = sound_start - float(video.start)
    if abs(shift) > MOST_SHIFT:
        raise Rejected("unreadable", f"sound and picture begin {abs(shift):.0f} s apart")
    survey = loudness_profile(sound(path, shift, sound_damage := Damage()))
    # The header counts from time 0; `video.seconds` and `survey.seconds` count from the first picture on.
    length = float(video.start) + max(float(video.seconds), survey.seconds)
    unread = claimed - length
    if is_cut(length, claimed):
        raise Rejected("truncated", f"{length:.1f} s of {claimed:.1f} s can be read")
    if not any(detections):
        raise Rejected("no face")
    if not survey.speech_mask.any():
        raise Rejected("silent")
    squares, shots = _framed(detections, [*cuts, number + 1], size)
    after = survey.speech_mask[round(video.seconds * FRAME_RATE) :].sum() / FRAME_RATE
    unpaired = max(unread, claimed_sound - (survey.seconds - shift), after + max(0.0, -shift))
    track = FaceTrack(video.start, video.seconds, squares, video.turn)
    damaged = tuple(float(time - video.start) for time in (*video.damage.times, *sound_damage.times))
    kinds = {"picture": video.damage, "sound": sound_damage}
    damage = ", ".join(f"{kind}: {one}" for kind, one in kinds.items() if one.times)
    return Analysis(track, tuple(detections), several, shots, survey, shift, unpaired, damaged, damage)


def sound(path: Path, shift: float, damage: Damage | None = None) -> Iterator[Tensor]:
    """Yield the sound as samples (n,) at 24 kHz, from the time of the first picture on.

    Args:
        path: the video.
        shift: seconds from the first picture to the first sound; silence is added if it is positive.
        damage: see `stream_audio`.
    """
    late = round(shift * SAMPLE_RATE)
    if late > 0:
        yield torch.zeros(late)
    skip = max(0, -late)
    for piece in stream_audio(path, damage):
        if skip < len(piece):
            yield piece[skip:]
        skip = max(0, skip - len(piece))


def choose_spans(analysis: Analysis, cues: Sequence[Cue]) -> tuple[list[Span], dict[str, int]]:
    """Choose the spans of a video that become clips.

    Cuts lie between the cues of the transcript, or at silences if it has no times. No span extends over two
    shots, or over a cue that is not English, because its sound would have no text. A transcript without times
    is that of the whole sound, so it can only be used for a video that is a single shot and fits into one
    clip.

    Returns:
        The spans, and the number of cues (or videos) that are left out, by reason.
    """
    frames = analysis.frames
    if cues and analysis.damaged and not any(math.isfinite(cue.end) for cue in cues):
        return [], {"damaged, and its transcript has no times": 1}
    # The times of a transcript count from the first sound or the first picture, whichever is earlier.
    timed = [cue.shifted(min(0.0, analysis.shift)) for cue in cues if math.isfinite(cue.end)]
    if cues and not timed and (frames > LONGEST_SECONDS * FRAME_RATE or len(analysis.shots) > 1):
        return [], {"long or of many shots, and its transcript has no times": 1}
    if cues and not timed and analysis.unpaired > MOST_UNPAIRED:
        return [], {"sound without picture or cut short, and its transcript has no times": 1}
    known = [not foreign(cue.text) for cue in timed]
    unread = [cue for cue, english in zip(timed, known, strict=True) if not english]
    timed = [cue for cue, english in zip(timed, known, strict=True) if english]
    found: list[Span] = []
    kept = 0
    for first, last in analysis.shots:
        start, end = first / FRAME_RATE, min(last, frames) / FRAME_RATE
        if not timed and not unread:
            found += _between_silences(analysis.survey.speech_mask[first : min(last, frames)], start, cues)
            continue
        late = SLACK_SECONDS if last >= frames else 0.0
        inside = [cue for cue in timed if start <= cue.start and cue.end <= end + late]
        for begin, stop, own in _between_cues(inside, unread, start, end):
            for span in spans(own, stop)[0]:
                found.append(Span(max(span.start, begin), span.end, span.cues))
                kept += len(span.cues)
    lost = {ACROSS: len(timed) - kept, NOT_ENGLISH: len(unread)}
    return found, {reason: count for reason, count in lost.items() if count}


def _between_cues(
    cues: Sequence[Cue], unread: Sequence[Cue], start: float, end: float
) -> Iterator[tuple[float, float, list[Cue]]]:
    """Yield the parts of a shot between its unread cues, as (start, end, cues), times in seconds.

    A part also contains the whole of its cues where these overlap with an unread one.
    """
    for before, after in pairwise([None, *unread, None]):
        low, high = before.start if before else -math.inf, after.start if after else math.inf
        own = [cue for cue in cues if low <= cue.start < high]
        if own:
            begin = max(start, min(before.end, own[0].start)) if before else start
            stop = min(end, max(after.start, *(cue.end for cue in own))) if after else end
            yield begin, stop, own


def _between_silences(speaks: np.ndarray, start: float, cues: Sequence[Cue]) -> list[Span]:
    """Spans of speech in one shot, each with the whole text of a transcript that has no times.

    Args:
        speaks: (frames,) whether there is speech in each frame of the shot.
        start: time of the shot's first frame in seconds.
        cues: the transcript, a single cue, or nothing.
    """
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
    detections: list[Box | None], borders: list[int], size: tuple[int, int]
) -> tuple[tuple[Box, ...], tuple[tuple[int, int], ...]]:
    """Compute the square to crop at each detection, shot by shot, and the frames of each shot.

    Args:
        detections: one per `DETECTION_INTERVAL` frames.
        borders: numbers of the first frames of all shots, and the number of frames.
        size: width and height of the pictures.
    """
    squares: list[Box] = []
    shots = []
    for first, stop in pairwise(borders):
        own = detections[-(-first // DETECTION_INTERVAL) : -(-stop // DETECTION_INTERVAL)]
        # A shot without a face gives no clip, so its square does not matter.
        squares += smooth_squares(own if any(own) else [Box(0, 0, min(size))] * len(own), size) if own else ()
        # Squares are interpolated between detections; those interpolated across a cut are in no shot.
        begin = first if first == 0 else -(-first // DETECTION_INTERVAL) * DETECTION_INTERVAL
        end = stop if stop == borders[-1] else (stop - 1) // DETECTION_INTERVAL * DETECTION_INTERVAL + 1
        if begin < end:
            shots.append((begin, end))
    return tuple(squares), tuple(shots)


def _probe(path: Path) -> tuple[float, float, float]:
    """Read the header of a video.

    Returns:
        In seconds: the end of the file and the length of the sound as the header states them (0: not
        stated), and the time of the first sound.
    """
    if find_picture(path) is None:
        raise Rejected("no picture")
    index = find_sound_track(path)
    if index is None:
        raise Rejected("no sound")
    with open_media(path) as container:
        claimed, track = (container.duration or 0) / av.time_base, container.streams[index]
        claimed_sound = Fraction(track.duration or 0) * Fraction(track.time_base or 0)
        first = next(decode_audio(container, index), None)
    if first is None:
        raise Rejected("no sound")
    start = Fraction(first.pts or 0) * Fraction(first.time_base or 0)
    return claimed, float(claimed_sound), float(start)


def _detect(
    picture: Image.Image, detections: Sequence[Box | None], detector: Detector | None
) -> tuple[Box | None, bool | None]:
    """The tracked face, and whether there is a second face of similar size (None: not checked)."""
    if detector is None and len(detections) % COUNT_EVERY:
        return track_face(picture, detections), None
    faces = (detector or find_faces)(picture)
    if not faces:
        return None, False
    last = next((box for box in reversed(detections) if box is not None), None)
    face = next((one for one in faces if last is not None and last.contains(one.centre)), faces[0])
    return face, any(other is not face and other.side > AS_LARGE * face.side for other in faces)


def _thumbnail(frame: np.ndarray) -> np.ndarray:
    """A frame (H, W, 3) as (32, 32, 3) in [0, 1], by nearest-neighbour sampling."""
    rows, columns = (np.linspace(0, length - 1, THUMBNAIL).round().astype(int) for length in frame.shape[:2])
    return from_uint8(torch.from_numpy(frame[rows[:, None], columns]), low=0).numpy()
