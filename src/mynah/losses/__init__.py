"""Losses: each returns a sum and its counts, so that accumulation and workers change nothing."""

from __future__ import annotations

from mynah.losses.consistency import consistency_loss
from mynah.losses.counts import Counts
from mynah.losses.ctc import ctc_loss
from mynah.losses.label_smoothing import accuracy, label_smoothing_loss

__all__ = ["Counts", "accuracy", "consistency_loss", "ctc_loss", "label_smoothing_loss"]
