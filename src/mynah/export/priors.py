"""Dividing what a CTC model says by how often it says each unit.

A search multiplies the probability of units given the sound with that of words. The former already
holds how frequent units are, which the language model knows better: as in hybrid recognisers
(Bourlard and Morgan, Connectionist Speech Recognition, 1994) it is divided by a power of the mean
probability. The quotient is a change of the output layer's bias; the blank keeps its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mynah.audio.features import Frontend, make_frontend
from mynah.errors import InputError, ModelError
from mynah.model_folder import ModelFolder, write_model_folder
from mynah.models.load import WEIGHTS, load_model
from mynah.models.u2.model import U2
from mynah.nn.weights import write_weights


def unit_priors(
    model: U2, frontend: Frontend, sounds: Iterable[npt.NDArray[np.float32]]
) -> npt.NDArray[np.float64]:
    """The mean probability of each unit over all frames of ``sounds``: (V,).

    Raises:
        InputError: no sound has a frame.
    """
    total = np.zeros(model.config.vocab_size)
    frames = 0
    with torch.no_grad():
        for samples in sounds:
            feats = torch.from_numpy(frontend(samples))[None]
            encoded, lens, _ = model(feats, torch.tensor([feats.shape[1]]))
            probs = model.ctc_log_probs(encoded)[0, : int(lens[0])].double().exp()
            total += probs.sum(0).numpy()
            frames += len(probs)
    if not frames:
        raise InputError("no sound to take the priors of units from")
    return total / frames


def divide_by_priors(model: U2, priors: npt.NDArray[np.float64], weight: float) -> None:
    """Take ``weight`` times the log prior of each unit from its logit, the blank's aside.

    The priors are those among the units other than the blank, and what is taken is 0 on their
    average, so that the blank stays what it was beside them. Units that are hardly ever heard
    (below one in ten thousand) are left alone too.
    """
    share = priors.copy()
    share[model.config.blank] = 0.0
    share /= max(share.sum(), 1e-30)
    heard = share >= 1e-4
    logs = weight * np.log(share[heard])
    change = np.zeros(len(priors))
    change[heard] = logs - float((share[heard] * logs).sum() / share[heard].sum())
    with torch.no_grad():
        model.ctc.bias.sub_(torch.from_numpy(change).to(model.ctc.bias))


def fold_priors(
    source: ModelFolder,
    target: str | Path,
    sounds: Iterable[npt.NDArray[np.float32]],
    weight: float,
) -> npt.NDArray[np.float64]:
    """Write the folder ``target``: ``source`` divided by its priors on ``sounds``; the priors.

    Raises:
        ModelError: not a recogniser with weights.
        InputError: no sound.
    """
    model = load_model(source).eval()
    if not isinstance(model, U2):
        raise ModelError(f"{source.path}: the family {source.info.family} has no units to divide")
    priors = unit_priors(model, make_frontend(source.info.frontend), sounds)
    divide_by_priors(model, priors, weight)
    with write_model_folder(target, source.info) as work:
        for name in source.files:
            if not name.startswith("onnx/") and name != WEIGHTS:
                (work / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source.file(name), work / name)
        write_weights(model.state_dict(), work / WEIGHTS)
    return priors
