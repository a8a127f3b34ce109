from __future__ import annotations

from typing import Literal

import pytest
import torch
import torch.nn.functional as F

from mynah.nn.convolution import ConvolutionModule, ConvSubsampling, MaskedBatchNorm
from mynah.nn.mask import valid_mask


@pytest.mark.parametrize(("factor", "overlap"), [(2, 2), (4, 6), (6, 10), (8, 14)])
def test_subsampling_lengths_and_overlap(factor: Literal[2, 4, 6, 8], overlap: int) -> None:
    layer = ConvSubsampling(20, 6, factor)
    assert layer.overlap == overlap
    for frames in range(overlap + 1, 60):
        made = layer(torch.zeros(1, frames, 20)).shape[1]
        assert made == int(layer.lens(torch.tensor([frames])))
        assert made == (frames - overlap - 1) // factor + 1
    assert layer.lens(torch.arange(overlap + 1)).tolist() == [0] * (overlap + 1)


@pytest.mark.parametrize("factor", [2, 4, 6, 8])
def test_join_continues_where_the_last_step_ended(factor: Literal[2, 4, 6, 8]) -> None:
    torch.manual_seed(0)
    layer = ConvSubsampling(20, 6, factor)
    feats = torch.randn(1, 90, 20)
    whole = layer(feats)[0]
    overlap, overlap_lens = torch.zeros(1, layer.overlap, 20), torch.tensor([0])
    parts, start = [], 0
    for size in (1, 2, 30, 5, 0, 3, 40, 9):
        padded = F.pad(feats[:, start : start + size], (0, 0, 0, 3), value=9.0)
        x, lens, overlap, overlap_lens = layer.join(
            padded, torch.tensor([size]), overlap, overlap_lens
        )
        parts.append(layer(x)[0, : int(layer.lens(lens))])
        start += size
    assert start == 90
    assert torch.allclose(torch.cat(parts), whole, atol=1e-6)


def test_batch_norm_equals_torch_on_valid_frames() -> None:
    torch.manual_seed(1)
    ours, theirs = MaskedBatchNorm(5), torch.nn.BatchNorm1d(5)
    for _ in range(3):
        x, lens = torch.randn(3, 8, 5) * 2 + 1, torch.tensor([8, 3, 0])
        valid = valid_mask(lens, 8)
        found = ours(x, valid)[valid]
        assert torch.allclose(found, theirs(x[valid]), atol=1e-5)
    for name, value in theirs.state_dict().items():
        assert torch.allclose(ours.state_dict()[name].float(), value.float(), atol=1e-5), name
    ours.eval(), theirs.eval()
    assert torch.allclose(ours(x, valid)[valid], theirs(x[valid]), atol=1e-5)


def test_batch_norm_statistics_outlive_a_bad_batch() -> None:
    norm = MaskedBatchNorm(3)
    x = torch.randn(2, 5, 3)
    norm(x, torch.ones(2, 5, dtype=torch.bool))
    before = norm.running_mean.clone(), norm.running_var.clone()
    x[0, 0, 1] = float("nan")
    norm(x, torch.ones(2, 5, dtype=torch.bool))
    assert torch.isfinite(norm.running_mean).all() and torch.isfinite(norm.running_var).all()
    assert norm.running_mean[1] == before[0][1] and norm.running_var[1] == before[1][1]
    assert norm.running_mean[0] != before[0][0]


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("causal", [True, False])
def test_padding_changes_nothing(causal: bool, norm: Literal["layer", "batch"]) -> None:
    torch.manual_seed(2)
    module = ConvolutionModule(6, 5, causal=causal, norm=norm)
    alone = torch.randn(1, 9, 6)
    padded = torch.cat((alone, 7 * torch.ones(1, 4, 6)), 1)
    both = torch.cat((padded, torch.randn(1, 13, 6)))

    def run(x: torch.Tensor, lens: list[int]) -> torch.Tensor:
        lengths = torch.tensor(lens)
        y: torch.Tensor = module(x, lengths, valid_mask(lengths, x.shape[1]), None)[0]
        return y[0, :9]

    assert torch.allclose(run(alone, [9]), run(padded, [9]), atol=1e-5)
    module.eval()
    assert torch.allclose(run(alone, [9]), run(both, [9, 13]), atol=1e-5)


def test_causal_module_in_pieces() -> None:
    torch.manual_seed(3)
    module = ConvolutionModule(6, 5, causal=True)
    x = torch.randn(1, 12, 6)
    whole = module(x, torch.tensor([12]), torch.ones(1, 12, dtype=torch.bool), None)[0]
    cache, parts, start = torch.zeros(1, 4, 6), [], 0
    for size in (1, 0, 2, 6, 3):
        padded = F.pad(x[:, start : start + size], (0, 0, 0, 2), value=3.0)
        lens = torch.tensor([size])
        y, cache = module(padded, lens, valid_mask(lens, size + 2), cache)
        parts.append(y[:, :size])
        start += size
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-6)
