"""A convolution module of few channels in bfloat16: the library's kernel for it never returns."""

from __future__ import annotations

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
