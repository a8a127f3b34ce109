from __future__ import annotations

import torch

from mynah.nn.mask import chunk_mask, key_mask, reverse_rows, slice_rows, stream_mask, valid_mask


def test_chunk_mask_shows_own_chunk_and_some_before() -> None:
    size, chunk = 7, 2
    lens = torch.tensor([7, 3, 0])
    for left in (None, 0, 1, 2):
        mask = chunk_mask(lens, size, chunk, left)[:, 0]
        for b in range(3):
            for query in range(size):
                for key in range(size):
                    behind = query // chunk - key // chunk
                    seen = 0 <= behind <= (size if left is None else left) and key < lens[b]
                    assert mask[b, query, key] == (seen or query == key)


def test_no_query_is_left_without_a_key() -> None:
    lens = torch.tensor([4, 0])
    assert key_mask(lens, 5).any(-1).all()
    assert chunk_mask(lens, 5, 2, 0).any(-1).all()
    assert stream_mask(torch.tensor([0, 0]), lens, 3, 5).any(-1).all()


def test_stream_mask_is_right_aligned_in_the_cache() -> None:
    mask = stream_mask(torch.tensor([2, 0, 3]), torch.tensor([1, 2, 0]), 3, 2)[:, 0, 0]
    assert mask.tolist() == [
        [False, True, True, True, False],
        [False, False, False, True, True],
        [True, True, True, True, False],
    ]


def test_slice_rows_takes_each_row_from_its_own_start() -> None:
    x = torch.arange(24).reshape(2, 6, 2)
    taken = slice_rows(x, torch.tensor([1, 3]), 3)
    assert torch.equal(taken[0], x[0, 1:4]) and torch.equal(taken[1], x[1, 3:6])
    assert slice_rows(x, torch.tensor([4, 0]), 0).shape == (2, 0, 2)
    assert torch.equal(slice_rows(x, torch.tensor([-1, 5]), 2)[0], x[0, [0, 0]])  # clamped


def test_reverse_rows() -> None:
    tokens = torch.tensor([[1, 2, 3], [4, 5, 9], [9, 9, 9]])
    reversed_ = reverse_rows(tokens, torch.tensor([3, 2, 0]))
    assert reversed_.tolist() == [[3, 2, 1], [5, 4, 0], [0, 0, 0]]


def test_valid_mask() -> None:
    assert valid_mask(torch.tensor([2, 0]), 3).tolist() == [[True, True, False], [False] * 3]
