"""Batch normalisation over processes is that of the whole batch in one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from mnist_cnn.nets.layers import BatchNorm

SHARES = (5, 3)  # images of each process: the devices need not divide a batch


def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [3 * torch.randn(sum(SHARES), 4, 6, 6, generator=generator) + 1 for _ in range(2)]


def passes(
    layer: nn.Module, inputs: list[Tensor], dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Two steps forward and backward; all that can be seen of them, and an evaluation."""
    seen: dict[str, Tensor] = {}
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, -1.0, 0.5]))  # type: ignore[operator]
        layer.bias.copy_(torch.tensor([0.0, 1.0, 2.0, -3.0]))  # type: ignore[operator]
    for step, batch in enumerate(inputs):
        x = batch.to(dtype, copy=True).requires_grad_()
        y = layer(x)
        assert y.dtype == dtype
        (y * y.detach().sigmoid()).sum().backward()
        assert x.grad is not None
        seen |= {f"y{step}": y.detach(), f"gradient{step}": x.grad}
    seen |= {f"buffer {name}": value for name, value in layer.named_buffers()}
    seen |= {f"sum of {name}": p.grad for name, p in layer.named_parameters() if p.grad is not None}
    return seen | {"evaluated": layer.eval()(inputs[0].to(dtype)).detach()}


TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def of_a_process(rank: int, folder: str) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=len(SHARES)
    )
    mine = [batch.split(SHARES)[rank] for batch in batches()]
    for dtype in TOLERANCES:
        torch.save(passes(BatchNorm(4), mine, dtype), f"{folder}/{dtype}-{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder_of_two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(of_a_process, (str(folder),), len(SHARES))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES.items(), ids=str)
def test_two_processes_normalise_as_one(
    dtype: torch.dtype, tolerance: float, folder_of_two_processes: Path
) -> None:
    files = [folder_of_two_processes / f"{dtype}-{rank}.pt" for rank in range(len(SHARES))]
    ranks = [torch.load(file) for file in files]
    expected = passes(nn.BatchNorm2d(4), batches(), dtype)
    assert len(expected) == 10
    for name, value in expected.items():
        shares = [rank[name] for rank in ranks]
        if name.startswith("buffer"):
            found = shares[0]
            assert torch.equal(*shares), name
        else:
            found = sum(shares) if name.startswith("sum") else torch.cat(shares)
        torch.testing.assert_close(found, value, msg=name, rtol=tolerance, atol=tolerance)


def test_one_process_is_stock() -> None:
    expected, found = (passes(layer(4), batches()) for layer in (nn.BatchNorm2d, BatchNorm))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
