"""Collective operations of two processes equal those of one process with all samples."""

from __future__ import annotations

import copy
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from recipes import ranks
from recipes.backend import PlainBackend

ROWS = torch.randn(6, 4, 5, generator=torch.Generator().manual_seed(0))
NORM = nn.BatchNorm1d(4)
nn.init.normal_(NORM.weight)


def collective(folder: Path, backend: PlainBackend) -> dict[str, Any]:
    """What one of the processes computes."""
    own = ROWS[ranks.own(6)].requires_grad_()
    norms = nn.Sequential(copy.deepcopy(NORM))
    ranks.synchronise_batch_norms(norms)
    whole = ranks.gather(norms(own))
    (whole * ROWS.cos()).sum().backward()
    trained = norms.eval()(ROWS).detach()
    with ranks.rank_zero_first():
        first = not (folder / "made").exists()
        (folder / "made").touch()
    weight = backend.module.get_parameter("weight")
    start = weight.item()
    backend.backward((ranks.rank() + 1) * weight.sum())
    norm = backend.update(lambda norm: True)
    try:
        ranks.check_divisible(6, 2)
        divisible = ""
    except ValueError as error:
        divisible = str(error)
    return {
        "own": ranks.own(5),
        "gathered": whole.detach(),
        "gradient": own.grad,
        "trained": trained,
        "running": (norms[0].running_mean, norms[0].running_var, norms[0].num_batches_tracked),
        "total": ranks.total(torch.tensor([1.0, ranks.rank()])),
        "average": ranks.average(torch.tensor([1.0, ranks.rank()])),
        "mean": ranks.mean(torch.tensor([[1.0, ranks.rank()]])),
        "any": ranks.any_rank(False, ranks.rank() == 1, True),
        "first": first,
        "step": (norm, start - weight.item()),
        "divisible": divisible,
    }


def child(rank: int, folder: Path, backend: PlainBackend) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(collective(folder, backend), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    layer = nn.Linear(1, 1, bias=False)
    backend = PlainBackend(layer, torch.optim.SGD(layer.parameters(), 1.0), 10.0, "float32")
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=child, args=(rank, folder, backend)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_samples_are_dealt_in_turn(found: list[dict[str, Any]]) -> None:
    assert [each["own"] for each in found] == [[0, 2, 4], [1, 3]]
    assert [each["first"] for each in found] == [True, False], "rank 0 makes what the other finds"


def test_reductions_are_over_all_ranks(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert each["total"].tolist() == [2, 1]
        assert each["average"].tolist() == [1, 0.5]
        assert each["mean"].item() == 0.75
        assert each["any"] == [False, True, True]
        assert each["step"] == (1.5, pytest.approx(1.5)), "the gradients 1 and 2 of the ranks are averaged"


def test_batch_norm_and_gradients_equal_those_of_one_process(found: list[dict[str, Any]]) -> None:
    """Every rank has the same loss of all samples, so the sum of the ranks' losses has twice the gradient."""
    norm, rows = copy.deepcopy(NORM), ROWS.clone().requires_grad_()
    whole = norm(rows)
    (2 * whole * ROWS.cos()).sum().backward()
    expected: Tensor = norm.eval()(ROWS)
    for rank, each in enumerate(found):
        torch.testing.assert_close(each["gathered"], whole.detach())
        torch.testing.assert_close(each["gradient"], rows.grad[rank::2])  # type: ignore[index]
        torch.testing.assert_close(each["trained"], expected.detach())
        for ours, theirs in zip(
            each["running"], (norm.running_mean, norm.running_var, norm.num_batches_tracked), strict=True
        ):
            torch.testing.assert_close(ours, theirs)


def test_samples_that_cannot_be_divided_are_an_error(found: list[dict[str, Any]]) -> None:
    for each in found:
        assert "6 samples a step cannot be divided among 2 processes in groups of 2" in each["divisible"]
        assert "set rows to a multiple of 4" in each["divisible"]


def test_one_process_is_the_identity() -> None:
    assert ranks.gather(ROWS) is ROWS
    assert ranks.any_rank(True, False) == [True, False]
    assert ranks.own(3) == [0, 1, 2]
    ranks.check_divisible(7, 2)
    norms = nn.Sequential(nn.BatchNorm1d(2))
    ranks.synchronise_batch_norms(norms)
    assert type(norms[0]) is nn.BatchNorm1d
