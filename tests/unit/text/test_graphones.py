from __future__ import annotations

import pytest

from mynah.errors import InputError
from mynah.text.graphones import graphone, graphones, split_graphone

PAIRS = [(word, tuple(phones.split())) for word, phones in (
    ("it", "ih t"), ("tin", "t ih n"), ("nit", "n ih t"), ("fat", "f ae t"), ("ax", "ae k s"),
    ("fix", "f ih k s"), ("nax", "n ae k s"), ("tine", "t ay n"), ("fine", "f ay n"),
    ("hi", "hh ay"), ("pi", "p ay"), ("xo", "k ow"), ("knit", "n ih t"),
    ("knife", "n ay f"), ("night", "n ay t"), ("fight", "f ay t"),
)]  # fmt: skip


def test_every_letter_and_every_phone_is_in_one_graphone() -> None:
    found = dict(graphones(PAIRS, min_count=1))
    assert found["fix"] == ["f:f", "i:ih", "x:k_s"]
    assert found["night"] == ["n:n", "igh:ay", "t:t"]
    assert found["knife"][0] == "kn:n" and found["fine"][-1] == "ne:n"
    for word, phones in PAIRS:
        parts = [split_graphone(name) for name in found[word]]
        assert "".join(letters for letters, _ in parts) == word
        assert tuple(p for _, sounds in parts for p in sounds) == phones
        assert all(letters and sounds for letters, sounds in parts)


def test_rare_graphones_leave_their_words_out() -> None:
    kept = [word for word, _ in graphones(PAIRS, min_count=2)]
    assert "knit" in kept and "it" in kept
    assert "pi" not in kept, "no other word has a p"


def test_what_is_no_graphone_has_no_phones() -> None:
    assert split_graphone(graphone("x", "k s")) == ("x", ("k", "s"))
    for name in ("<unk>", "x:", ":k", "x", ""):
        assert split_graphone(name)[1] == ()


def test_words_that_cannot_be_aligned() -> None:
    with pytest.raises(InputError, match="no word"):
        list(graphones([("a", ("b", "b", "b"))]))
