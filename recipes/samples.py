"""Sample clips in training: the averaged model generates a few held-out clips, which are measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from tqdm import tqdm

from audio_vae.config import AudioVAEConfig
from audio_vae.model import AudioVAE
from evaluation.heldout import Case, Performance, performances
from evaluation.report import write_json
from evaluation.speech import Errors, recogniser
from evaluation.tasks import Row, perform_clip
from heads.streams import NAMES
from motion_ae.config import MotionAEConfig
from motion_ae.model import MotionAE
from recipes import ranks
from recipes.configs.talker import TalkerRun
from recipes.data.prepared import Prepared
from talker.checkpoint import load_component
from talker.clock import FRAME_RATE
from talker.generation.autoregressive import AutoregressiveGenerator
from talker.media.face import read_portrait
from talker.media.pixels import to_uint8
from talker.model.model import TalkerModel
from talker.pipeline import Talker
from talker.shipped import PUPPET, shipped
from talker.speaker.encoder import SpeakerEncoder, SpeakerEncoderConfig
from talker.system import System
from talker.text.tokenizer import PhonemeTokenizer

CLIPS = 3
SECONDS = (2, 10)  # shortest and longest clip
TASKS = ("t2av", "tts", "a2v", "v2a")


class Samples:
    """Generates the same few held-out clips at every call, once for each task of the mix.

    Args:
        model: the model that generates; its weights may change between calls.
        codecs: folder of the native checkpoint whose autoencoders and speaker encoder made the training data.
        held: held-out clips; None for clips of the corpus, which are rendered.

    Raises:
        ValueError: `codecs` is missing or damaged, or its latents have other widths than `model`.
    """

    def __init__(self, model: TalkerModel, codecs: Path, held: Prepared | None) -> None:
        device = model.motion_pad_emb.device
        with torch.random.fork_rng([]):  # creating a network draws random numbers
            vae = load_component(AudioVAE, AudioVAEConfig, codecs / "audio_vae", device)
            motion_ae = load_component(MotionAE, MotionAEConfig, codecs / "motion_ae", device)
            speaker = load_component(SpeakerEncoder, SpeakerEncoderConfig, codecs / "speaker", device)
        made = {"audio": vae.latent_dim, "motion": motion_ae.config.motion_dim}
        if made != model.config.widths:
            raise ValueError(
                f"the autoencoders in {codecs} have widths {made}, the model has {model.config.widths}: "
                f"set --codecs to the checkpoint that made the latents"
            )
        self._model, self._codecs = model, (vae, motion_ae, speaker)
        self._held, self._clips = held, list[Performance]()
        # The measures are trained on the corpus: they do not work for other voices and faces.
        self._measured = codecs == PUPPET

    def __call__(self, run: TalkerRun, folder: Path) -> dict[str, float]:
        """Write clips and `clips.json` to `folder`.

        An error is printed as one line and does not end the training. The random state and the number of
        threads stay as they are.

        Returns:
            The values of `task_means`; empty if the codecs are not the default's, or after an error.
        """
        threads = torch.get_num_threads()
        try:
            with torch.random.fork_rng([]):
                # Made anew: a generator computes constants from the weights, which have changed.
                generator = AutoregressiveGenerator(self._model, PhonemeTokenizer())
                rows = self._generate(Talker(System(generator, *self._codecs)), run, folder)
            return task_means(rows) if self._measured else {}
        except Exception as error:
            message = " ".join(str(error).split())
            tqdm.write(f"no samples in {folder} ({type(error).__name__}: {message})")
            return {}
        finally:
            torch.set_num_threads(threads)

    def _generate(self, talker: Talker, run: TalkerRun, folder: Path) -> list[Row]:
        folder.mkdir(parents=True, exist_ok=True)
        if not self._clips:
            prepared = self._held and islice(decoded_clips(talker, self._held), CLIPS)
            self._clips = list(prepared or performances("heldout", CLIPS))
        tasks = [name for name in TASKS if getattr(run.mix, name)]
        rows: list[Row] = []
        for clip in self._clips:
            rows += perform_clip(talker, clip, folder, tasks, run.seed, run.sampling)
        write_json(rows, folder / "clips.json")
        return rows


def samples_for(model: TalkerModel, run: TalkerRun, codecs: Path, held: Prepared | None) -> Samples | None:
    """Return `Samples` for this run, or None.

    It is None on all ranks but 0, if `run.generate_every` is 0, or if the codecs cannot be used, which is
    printed.
    """
    if ranks.rank() > 0 or not run.generate_every:
        return None
    try:
        return Samples(model, codecs, held)
    except ValueError as error:
        print(f"no samples will be generated: {error}", flush=True)
        return None


def task_means(rows: Sequence[Row]) -> dict[str, float]:
    """Return the means of the measures of `rows` by task.

    PER is pooled over all clips; `offset` is the mean distance of the audio-visual offset from 0 in frames;
    `confidence` is its mean confidence. Measures without a finite value are left out.
    """
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
def decoded_clips(talker: Talker, held: Prepared) -> Iterator[Performance]:
    """Yield clips of a prepared data set: decoded latents, and frames of the first shipped portrait.

    Their phonemes are those that the recogniser transcribes from the decoded sound.

    Raises:
        ValueError: no clip has a text and a length within SECONDS.
    """
    portrait, system = shipped("portraits", None), talker.system
    face, size = talker.portrait(portrait), system.patch_frames
    picture = rearrange(to_uint8(read_portrait(portrait, system.resolution)[0]), "1 c h w -> h w c").numpy()
    low, high = (seconds * FRAME_RATE for seconds in SECONDS)
    fitting = [clip for clip, n in enumerate(held.frames) if low <= n <= high and held.ids(clip)]
    if not fitting:
        raise ValueError(f"no held-out clip of {SECONDS[0]} to {SECONDS[1]} s has a text")
    for clip in fitting:
        stop = held.frames[clip] // size * size
        audio, motion = (held.of(name, clip)[:stop].split(size) for name in NAMES)
        pcm = torch.from_numpy(np.concatenate([*system.decode(audio)]))
        frames = np.concatenate([*system.render(motion, face.source)])
        heard = recogniser().transcribe(pcm)
        yield Case(f"{clip:04d}", held.text(clip), pcm, heard, pcm, picture), frames
