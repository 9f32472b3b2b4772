"""Speed of a training step of the talker: cached latents against encoding, vectorised patches against a loop.

python benchmarks/train.py [--size base | puppet] [--threads 2]

Weights and data are random. Sizes, precision and loss are those of the run configs `release` (base) and
`puppet`. A clip has 4 s and all streams. Measures the medians of:

- Encoding with the frozen networks: samples to latents, samples to speaker embeddings, frames to motion
  codes. A call encodes one clip (WavLM is slow with two in bfloat16) or 8 frames. The time of 2 clips is
  computed from the median call.
- A whole step on 2 cached clips: batch and draws, forward, backward, clipping, AdamW, moving average.
  "On the fly" adds the time of encoding, which is measured separately, because both would not fit in 24 GB.
  "Sound on the fly" does not include frames, because the published trainer reads motion codes from files.
- Forward and backward on 8 clips: vectorised, and with a Python loop that calls patch encoders and heads once
  per patch (with both draws of the patch). "Update" is the rest of the step and is the same in both.

On a CPU, the weights, gradients, moments and average of the base size are in bfloat16 (9 GB; 12.5 GiB in
total at the peak). In float32, as in the recipe, they would take 18 GB, the update would be slower, and the
first ratio would be smaller. On a GPU, a whole step on 64 clips is also measured, and the MFU if the GPU is
known.
"""

import argparse
import copy
import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from audio_vae.config import AudioVAEConfig
from audio_vae.model import AudioVAE
from motion_ae.config import MotionAEConfig
from motion_ae.model import MotionAE
from recipes import ranks
from recipes.configs.talker import Batch, Mix, TalkerRun, puppet, release
from recipes.data.latents import Latents
from recipes.device import PEAK_FLOPS
from recipes.engine import Engine
from recipes.plan import step_flops
from recipes.train_talker import Data, build, counts_of, draw, loss_of
from talker.clock import FRAME_RATE, SAMPLE_RATE
from talker.model.config import TalkerConfig
from talker.model.model import TalkerModel
from talker.speaker.encoder import SpeakerEncoder, SpeakerEncoderConfig

CONFIGS = {"base": release, "puppet": puppet}
SECONDS, LETTERS = 4, 48  # of a clip
ENCODED, LOOPED, FILLING = 2, 8, 64  # clips a step
TOGETHER = 8  # frames encoded at once
REPEATS, ENOUGH = 5, 15.0  # calls, and seconds after which fewer will do


def seconds(work: Callable[..., object], *inputs: Tensor) -> float:
    """Median wall time of a call in seconds, after one call that is not timed."""

    def once() -> float:
        start = time.perf_counter()
        work(*inputs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - start

    once()
    taken = [once()]
    while len(taken) < REPEATS and sum(taken) < ENOUGH:
        taken.append(once())
    return median(taken)


@torch.inference_mode()
def encoding(size: str, device: torch.device, precision: str) -> dict[str, float]:
    """Seconds to encode ENCODED clips, by kind of latent. Only one network is in memory at a time."""
    vae, speaker, motion = (
        getattr(config, size)() for config in (AudioVAEConfig, SpeakerEncoderConfig, MotionAEConfig)
    )
    pcm = 0.1 * torch.randn(1, SECONDS * SAMPLE_RATE, device=device)
    frames = torch.rand(TOGETHER, 3, motion.resolution, motion.resolution, device=device) * 2 - 1
    groups = ENCODED * SECONDS * FRAME_RATE / TOGETHER
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        return {
            "audio latents": ENCODED * seconds(AudioVAE(vae).to(device).eval().encode, pcm),
            "speaker embeddings": ENCODED * seconds(SpeakerEncoder(speaker).to(device).eval().embed, pcm),
            "motion codes": groups * seconds(MotionAE(motion).to(device).eval().encode, frames),
        }


def random_clips(config: TalkerConfig, clips: int) -> Data:
    """Cached clips of SECONDS with LETTERS text tokens each."""
    rng, frames = np.random.default_rng(0), SECONDS * FRAME_RATE

    def normal(rows: int, width: int) -> np.ndarray:
        return rng.normal(size=(rows, width)).astype(np.float16)

    read = np.linspace(0, LETTERS, frames // config.patch_frames).astype(np.float16)
    held = Latents(
        audio=normal(clips * frames, config.widths["audio"]),
        motion=normal(clips * frames, config.widths["motion"]),
        text=rng.integers(1, config.backbone.vocab, clips * LETTERS).astype(np.int32),
        read=np.tile(read, clips),
        voice=np.arange(clips, dtype=np.int32),
        speaker=normal(clips, config.global_widths["audio"]),
        frame_starts=np.arange(clips + 1) * frames,
        text_starts=np.arange(clips + 1) * LETTERS,
    )
    return Data.of(held)


def one_by_one(forward: Callable[..., Tensor], rows: int, *inputs: Tensor) -> Tensor:
    """Call `forward` for every `rows` rows of its inputs, and concatenate the results."""
    return torch.cat([forward(*piece) for piece in zip(*(x.split(rows) for x in inputs), strict=True)])


@contextmanager
def looped(model: TalkerModel, repeat: int) -> Iterator[None]:
    """Context in which each call of patch encoders and heads gets one patch, or its `repeat` draws."""
    rows = {network: 1 for network in model.patch_encoders.values()}
    rows |= {network: repeat for network in model.heads.children()}
    for network, count in rows.items():
        network.forward = partial(one_by_one, network.forward, count)
    try:
        yield
    finally:
        for network in rows:
            del network.forward


class Bench:
    """Runs single passes of the talker's training."""

    def __init__(self, run: TalkerRun, rows: int, trainer: Engine) -> None:
        self.run = dataclasses.replace(
            run,
            mix=Mix(t2av=1.0, tts=0.0),
            batch=Batch(rows=rows, micro=rows * SECONDS, repeat=run.batch.repeat),
        )
        self.trainer, self.data = trainer, random_clips(run.model, rows)
        self.stats = copy.deepcopy(trainer.module.stats).cpu()
        self.device = next(trainer.module.parameters()).device
        self.updating: list[float] = []
        ((batch, _),) = self.draw()
        self.flops = step_flops(run.model, batch, run.batch.repeat)

    def draw(self) -> list:
        """The batch and its draws, as one pass."""
        return draw(self.data, 0, list(range(self.run.batch.rows)), self.run, self.stats)

    def gradients(self) -> Tensor:
        """Run forward and backward. Returns the loss."""
        ((batch, drawn),) = self.draw()
        errors = self.trainer(batch.to(self.device), drawn.to(self.device))
        loss, _ = loss_of(errors, counts_of(batch, self.run.batch.repeat), self.run)
        self.trainer.backward(loss)
        return loss.detach()

    def step(self) -> None:
        """Run a whole step."""
        self.gradients()
        start = time.perf_counter()
        self.trainer.step()  # reads the gradient norm, which waits for the GPU
        self.updating.append(time.perf_counter() - start)

    def rate(self, taken: float) -> str:
        """FLOP/s of a pass that took `taken` seconds, and the MFU if the GPU is known."""
        shown = f"{self.flops / taken / 1e12:.3f} TFLOP/s"
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else ""
        peak = next((peak for chip, peak in PEAK_FLOPS.items() if chip in name), None)
        return f"{shown}, MFU {self.flops / taken / peak:.1%}" if peak else shown


def talker(run: TalkerRun, device: torch.device) -> Engine:
    """The engine that the recipe builds, without ZeRO."""
    lean = run.precision == "bfloat16" and device.type == "cpu"
    torch.set_default_dtype(torch.bfloat16 if lean else torch.float32)
    try:
        return build(dataclasses.replace(run, zero=0), Path(), device)
    finally:
        torch.set_default_dtype(torch.float32)


def measure(size: str, device: torch.device) -> None:
    """Print the tables of one size."""
    run = CONFIGS[size]()
    found = encoding(size, device, run.precision)
    print(f"encoding {ENCODED} clips of {SECONDS} s, seconds")
    for name, taken in found.items():
        print(f"  {name:24}{taken:10.3f}", flush=True)

    trainer = talker(run, device)
    several = Bench(run, LOOPED, trainer)
    vectorised = seconds(several.gradients)
    with looped(trainer.module, run.batch.repeat):
        loop = seconds(several.gradients)
    trainer.optimiser.zero_grad()

    few = Bench(run, ENCODED, trainer)
    cached = seconds(few.step)
    assert not trainer.skipped, "a skipped step is not a whole one"
    update = median(few.updating[1:])
    print(f"a step on {ENCODED} cached clips, seconds")
    print(f"  {'all':24}{cached:10.3f}  {few.rate(cached)}")
    print(f"  {'of it the update':24}{update:10.3f}")
    sound = cached + found["audio latents"] + found["speaker embeddings"]
    fly = sound + found["motion codes"]
    print("samples a second")
    print(f"  {'cached':24}{ENCODED / cached:10.3f}")
    print(f"  {'on the fly':24}{ENCODED / fly:10.3f}  cached is {fly / cached:.2f} times as fast")
    print(f"  {'sound on the fly':24}{ENCODED / sound:10.3f}  {sound / cached:.2f} times")
    print(f"forward and backward on {LOOPED} clips, seconds")
    print(f"  {'vectorised':24}{vectorised:10.3f}  {several.rate(vectorised)}")
    print(f"  {'a patch at a time':24}{loop:10.3f}  vectorised is {loop / vectorised:.2f} times as fast")
    whole = vectorised + update
    print(f"  {'vectorised, update':24}{whole:10.3f}  {several.rate(whole)}")
    print(f"  {'a patch at a time, update':24}{loop + update:10.3f}  {(loop + update) / whole:.2f} times")
    if device.type == "cuda":
        many = Bench(run, FILLING, trainer)
        taken = seconds(many.step)
        print(f"a step on {FILLING} cached clips, seconds")
        print(f"  {'all':24}{taken:10.3f}  {many.rate(taken)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=CONFIGS, default="base")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    measure(options.size, ranks.join())


if __name__ == "__main__":
    main()
