"""What a talker can do while it is still in training: a few held-out clips, performed and measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from audio_vae.config import AudioVAEConfig
from audio_vae.model import AudioVAE
from evaluation.heldout import Case, Performance, performances
from evaluation.report import write_json
from evaluation.speech import Errors, recogniser
from evaluation.tasks import Row, perform_clip
from heads.streams import NAMES, Streams
from motion_ae.config import MotionAEConfig
from motion_ae.model import MotionAE
from recipes import ranks
from recipes.configs.talker import TalkerRun
from recipes.data.prepared import Prepared
from talker.checkpoint import PUPPET, load_component
from talker.clock import FRAME_RATE
from talker.media.face import read_portrait
from talker.model.model import TalkerModel
from talker.pipeline import Talker
from talker.shipped import shipped
from talker.speaker.encoder import SpeakerEncoder, SpeakerEncoderConfig

CLIPS = 3
SECONDS = (2, 10)  # shortest and longest
TASKS = ("t2av", "tts", "a2v", "v2a")


class Samples:
    """The same few clips every time, by each task that a run trains.

    Args:
        model: what will be heard and seen; its weights may change between calls.
        weights: native checkpoint of the autoencoders and the speaker encoder whose latents it learns.
        held: held-out clips to perform; None: those of the corpus, made anew with sound and pictures.
    """

    def __init__(self, model: TalkerModel, weights: Path, held: Prepared | None) -> None:
        """Raises ValueError where these weights are missing, damaged, or not what `model` is made for."""
        device = model.motion_pad_emb.device
        with torch.random.fork_rng([]):  # networks are drawn before they are loaded
            vae = load_component(AudioVAE, AudioVAEConfig, weights / "audio_vae", device)
            motion_ae = load_component(MotionAE, MotionAEConfig, weights / "motion_ae", device)
            speaker = load_component(SpeakerEncoder, SpeakerEncoderConfig, weights / "speaker", device)
        made = {"audio": vae.latent_dim, "motion": motion_ae.config.motion_dim}
        if made != model.config.widths:
            raise ValueError(
                f"{weights} has autoencoders of widths {made}, the model {model.config.widths}: "
                f"name with --weights the checkpoint that made the latents"
            )
        self.talker = Talker(model, vae, motion_ae, speaker)
        self._held, self._clips = held, list[Performance]()
        # Elsewhere the measures, which are trained on the corpus, know neither the voices nor the faces.
        self._measured = weights == PUPPET

    def __call__(self, run: TalkerRun, folder: Path) -> dict[str, float]:
        """Write clips and `clips.json` into `folder`; PER, mean distance of the offset from 0 in frames and
        mean confidence by task, where the weights are the default's.

        What goes wrong is one line that is printed: no training ends because of what is made on its way.
        Nothing of the training changes, its random state included.
        """
        threads = torch.get_num_threads()
        try:
            with torch.random.fork_rng([]):
                rows = self._performed(run, folder)
            return task_means(rows) if self._measured else {}
        except Exception as error:
            said = " ".join(str(error).split())
            tqdm.write(f"no samples in {folder} ({type(error).__name__}: {said})")
            return {}
        finally:
            torch.set_num_threads(threads)

    def _performed(self, run: TalkerRun, folder: Path) -> list[Row]:
        folder.mkdir(parents=True, exist_ok=True)
        if not self._clips:
            own = self._held and islice(given_back(self.talker, self._held), CLIPS)
            self._clips = list(own or performances("heldout", CLIPS))
        tasks = [name for name in TASKS if getattr(run.mix, name)]
        rows: list[Row] = []
        for clip in self._clips:
            rows += perform_clip(self.talker, clip, folder, tasks, run.seed, run.sampling)
        write_json(rows, folder / "clips.json")
        return rows


def samples_of(model: TalkerModel, run: TalkerRun, weights: Path, held: Prepared | None) -> Samples | None:
    """`Samples` for rank 0; None where a run wants none, or, with a line that says why, can have none."""
    if ranks.rank() > 0 or not run.generate_every:
        return None
    try:
        return Samples(model, weights, held)
    except ValueError as error:
        print(f"no samples will be made: {error}", flush=True)
        return None


def task_means(rows: Sequence[Row]) -> dict[str, float]:
    """By task: PER over all clips, mean distance of the offset from 0 in frames, mean confidence."""
    found: dict[str, float] = {}
    for task in dict.fromkeys(str(row["task"]) for row in rows):
        own = [row for row in rows if row["task"] == task]
        errors = [Errors(int(row["edits"]), int(row["phonemes"])) for row in own if "edits" in row]  # type: ignore[arg-type]
        synced = [(abs(float(row["offset"])), float(row["confidence"])) for row in own if "offset" in row]  # type: ignore[arg-type]
        found[f"{task}_per"] = sum(errors, Errors()).rate
        offset, confidence = np.mean(synced or [(math.nan, math.nan)], axis=0).tolist()
        found |= {f"{task}_offset": offset, f"{task}_confidence": confidence}
    return {name: value for name, value in found.items() if math.isfinite(value)}


@torch.inference_mode()
def given_back(talker: Talker, held: Prepared) -> Iterator[Performance]:
    """Clips of a prepared data set as the autoencoders give them back, with the first shipped face.

    Nobody knows their phonemes: what the recogniser hears in them takes their place.

    Raises:
        ValueError: no clip has a text and a fitting length.
    """
    portrait, size = shipped("portraits", None), talker.patch_frames
    face = talker.portrait(portrait)
    image = read_portrait(portrait, talker.motion_ae.config.resolution)[0]
    picture = ((image + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    low, high = (seconds * FRAME_RATE for seconds in SECONDS)
    fitting = [clip for clip, n in enumerate(held.frames) if low <= n <= high and held.ids(clip)]
    if not fitting:
        raise ValueError(f"no held-out clip of {SECONDS[0]} to {SECONDS[1]} s has a text")
    for clip in fitting:
        stop = held.frames[clip] // size * size
        parts = (held.of(name, clip)[:stop].to(talker.device).split(size) for name in NAMES)
        patches = [Streams(audio=audio, motion=motion) for audio, motion in zip(*parts, strict=True)]
        pcm = torch.from_numpy(np.concatenate([*talker.decoded(patches)]))
        frames = np.concatenate([*talker.rendered(patches, face)])
        heard = recogniser().transcribe(pcm)
        yield Case(f"{clip:04d}", held.text(clip), pcm, heard, pcm, picture), frames
