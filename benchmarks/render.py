"""CPU time of the motion autoencoder per rendered frame and per training pair, on one core.

    python benchmarks/render.py [--trees . ../before]

Measures CPU milliseconds of one thread, which other work on the machine hardly changes: per frame when
rendering patches of four, and per pair of images in a forward and backward pass through encoder and decoder.
Several trees of the project (such as two checkouts) are measured alternately in separate processes, and the
best result of each is printed.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROUNDS, TURNS, PATCH, PAIRS = 6, 3, 4, 4


def milliseconds(work: Callable[[], object]) -> float:
    """CPU time of the calling thread for one call, the best of several."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.thread_time()
        work()
        best = min(best, time.thread_time() - start)
    return 1000 * best


def measure() -> dict[str, float]:
    """Measure the tree that this process imports."""
    import torch

    from motion_ae.config import MotionAEConfig
    from motion_ae.model import MotionAE

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = MotionAEConfig.puppet()
    model, size = MotionAE(config), config.resolution
    for name, parameter in model.named_parameters():
        if any(head in name for head in ("to_flow", "to_rgb", "blend")):  # (nearly) zero when training starts
            torch.nn.init.normal_(parameter, std=0.1)
    images = torch.rand(PAIRS, 3, size, size) * 2 - 1
    motion = 0.1 * torch.randn(PATCH, config.motion_dim)

    @torch.inference_mode()
    def render() -> None:
        model.decode(motion, source)

    def train() -> None:
        identity, features = model.encoder(images)
        style = identity + model.directions(model.encoder.motion(identity).flip(0))
        model.decoder(style, features, images).abs().mean().backward()

    with torch.inference_mode():
        source = model.encode_source(images[:1])
    render()
    train()
    return {"frame_ms": milliseconds(render) / PATCH, "training_pair_ms": milliseconds(train) / PAIRS}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trees", type=Path, nargs="+", default=[Path(__file__).parents[1]])
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure()))
        return
    best: dict[Path, dict[str, float]] = {tree: {} for tree in options.trees}
    for _ in range(TURNS):
        for tree, figures in best.items():
            done = subprocess.run(
                [sys.executable, __file__, "--child"],
                env={**os.environ, "PYTHONPATH": str(tree.resolve())},
                stdout=subprocess.PIPE,
                check=True,
            )
            for name, value in json.loads(done.stdout).items():
                figures[name] = min(value, figures.get(name, value))
    for tree, figures in best.items():
        print(json.dumps({"tree": str(tree), **{name: round(ms, 1) for name, ms in figures.items()}}))


if __name__ == "__main__":
    main()
