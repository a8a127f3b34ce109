"""A convolution module of few channels in bfloat16: the library's kernel for it never returns."""

from __future__ import annotations

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from mynah.nn.convolution import ConvolutionModule  # noqa: E402


@pytest.mark.parametrize("dim", [8, 16, 24])
def test_few_channels_in_bfloat16(dim: int) -> None:
    torch.manual_seed(1)
    module = ConvolutionModule(dim, 15, causal=True)
    x, lens = torch.randn(2, 60, dim), torch.tensor([60, 40])
    valid = torch.arange(60) < lens[:, None]
    exact, _ = module(x, lens, valid, None)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = module(x, lens, valid, None)
    rounded.float().square().mean().backward()
    assert module.depthwise.weight.grad is not None
    torch.testing.assert_close(rounded.float(), exact, atol=0.05, rtol=0.05)


# threads, channels, batch, frames: where sixteen channels a thread are made
MANY = [(2, 32, 1, 74), (2, 32, 7, 60), (4, 64, 5, 40), (12, 192, 1, 60), (16, 256, 1, 160)]


def test_few_channels_a_thread_in_bfloat16() -> None:
    """In a process of its own, which can be stopped where it does not return."""
    program = f"""
import torch
from mynah.nn.convolution import ConvolutionModule
for threads, dim, batch, frames in {MANY}:
    torch.set_num_threads(threads)
    module, lens = ConvolutionModule(dim, 15, causal=True), torch.full((batch,), frames)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        module(torch.randn(batch, frames, dim), lens, torch.ones(batch, frames).bool(), None)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=100)
