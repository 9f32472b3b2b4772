"""Throughput of a running batch, and real-time factor of a single request in it, with the default model.

python benchmarks/batch.py [--capacity 1 4 8 16] [--patches 24] [--threads 1]

At each capacity, measures a full batch of T2AV requests in patches per second, and then one request that is
alone in the batch. Generates latents only. The times include prefills. Capacity 8 should generate at least
2.5 times as many patches per second as capacity 1. The default capacity is the largest at which a single
request has a real-time factor of at most 0.6.
"""

import argparse
import time

import torch

from heads.sampling import Sampling
from talker.checkpoint import load_component
from talker.clock import FRAME_RATE
from talker.generation.request import TokenRequest
from talker.generation.running_batch import CAPACITIES, RunningBatch
from talker.model.config import TalkerConfig
from talker.model.defaults import StopRule
from talker.model.model import TalkerModel
from talker.shipped import PUPPET
from talker.text.tokenizer import PhonemeTokenizer

TEXT = "The train to the coast leaves at seven in the morning, so we should meet a little earlier."


def seconds(model: TalkerModel, requests: list[TokenRequest], capacity: int) -> float:
    """Wall time in seconds to generate all requests in one batch."""
    start = time.perf_counter()
    batch = RunningBatch(model, capacity)
    for request in requests:
        batch.join(request)
    while batch.free < capacity:
        batch.step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--capacity", type=int, nargs="+", default=CAPACITIES)
    parser.add_argument("--patches", type=int, default=24, help="patches of each request")
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU threads per operation; the pipeline uses 1"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_component(TalkerModel, TalkerConfig, PUPPET / "talker")
    ids = PhonemeTokenizer().encode(TEXT)
    widths = model.config.global_widths
    requests = [
        TokenRequest(
            text_ids=ids,
            task="t2av",
            speaker=torch.nn.functional.normalize(torch.randn(widths["audio"]), dim=0),
            first_motion=torch.zeros(widths["motion"]),
            seed=seed,
            sampling=Sampling.puppet(),
            max_patches=options.patches,
            stop=StopRule.never(),
        )
        for seed in range(max(options.capacity))
    ]
    seconds(model, requests[:1], 1)  # warm up
    media = options.patches * model.config.patch_frames / FRAME_RATE
    print(f"{'capacity':>8}  {'patches/s':>9}  {'factor':>6}  {'rtf of 1':>8}")
    single = None
    for capacity in options.capacity:
        rate = capacity * options.patches / seconds(model, requests[:capacity], capacity)
        single = single or rate / min(options.capacity)
        alone = seconds(model, requests[:1], capacity) / media
        print(f"{capacity:>8}  {rate:>9.1f}  {rate / single:>6.2f}  {alone:>8.3f}", flush=True)


if __name__ == "__main__":
    main()
