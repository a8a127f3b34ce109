"""The same U2 model behind the inputs and outputs that sherpa-onnx expects of WeNet models.

Its int8 graphs are made as sherpa-onnx makes them: ``quantize_dynamic`` on the products, a scale a
tensor.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from pathlib import Path

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from mynah.models.u2.model import U2, EncoderState


class Online(nn.Module):
    """One chunk: ``chunk - 1`` times the subsampling and its overlap of frames at once."""

    def __init__(self, model: U2) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        x: Tensor,
        offset: Tensor,
        required_cache_size: Tensor,
        attn_cache: Tensor,
        conv_cache: Tensor,
        attn_mask: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        model, width = self.model, attn_cache.shape[3] // 2
        capacity = attn_cache.shape[2]
        state = EncoderState(
            overlap=x.new_zeros(1, model.overlap, x.shape[2]),
            overlap_lens=torch.zeros_like(offset),
            keys=attn_cache[None, ..., :width],
            values=attn_cache[None, ..., width:],
            valid=attn_mask[:, 0, :capacity].sum(1) + 0 * required_cache_size,
            conv=conv_cache.permute(1, 0, 3, 2),
            position=offset,
        )
        lens = torch.full_like(offset, 1) * x.shape[1]
        encoded, _, after = model(x, lens, state)
        assert after is not None
        cache = torch.cat((after.keys, after.values), -1)[0]
        return model.ctc_log_probs(encoded), cache, after.conv.permute(1, 0, 3, 2)


class Offline(nn.Module):
    """The whole utterance."""

    def __init__(self, model: U2) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, x_lens: Tensor) -> tuple[Tensor, Tensor]:
        encoded, lens, _ = self.model(x, x_lens)
        return self.model.ctc_log_probs(encoded), lens


def write(model: U2, folder: Path, chunk: int, left: int) -> None:
    """``online.fp32.onnx``, ``online.int8.onnx``, ``offline.*`` and ``tokens.txt``."""
    c = model.config.encoder
    capacity, width = chunk * left, c.dim // c.heads
    online = {
        "x": torch.randn(1, (chunk - 1) * model.subsampling + model.overlap + 1, 80),
        "offset": torch.tensor([capacity]),
        "required_cache_size": torch.tensor([capacity]),
        "attn_cache": torch.randn(c.layers, c.heads, capacity, 2 * width),
        "conv_cache": torch.randn(c.layers, 1, c.dim, c.kernel - 1),
        "attn_mask": torch.ones(1, 1, capacity + chunk, dtype=torch.bool),
    }
    offline = {"x": torch.randn(1, 300, 80), "x_lens": torch.tensor([300])}
    time = {"x": {1: torch.export.Dim.DYNAMIC}, "x_lens": {}}
    facts = {
        "model_type": "wenet_ctc", "version": 1, "head": c.heads, "num_blocks": c.layers,
        "output_size": c.dim, "cnn_module_kernel": c.kernel, "right_context": model.overlap,
        "subsampling_factor": model.subsampling, "vocab_size": model.config.vocab_size,
    }  # fmt: skip
    _write(
        Online(model), online, ["log_probs", "next_attn", "next_conv"], None, facts,
        folder / "online",
    )  # fmt: skip
    _write(Offline(model), offline, ["log_probs", "lens"], time, facts, folder / "offline")
    units = [f"u{i} {i}" for i in range(model.config.vocab_size)]
    units[0] = "<blk> 0"
    (folder / "tokens.txt").write_text("\n".join(units) + "\n")


def _write(
    module: nn.Module,
    inputs: dict[str, Tensor],
    outputs: list[str],
    axes: dict[str, dict[int, object]] | None,
    facts: dict[str, object],
    path: Path,
) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(), tuple(inputs.values()), dynamo=True, input_names=list(inputs),
            output_names=outputs, dynamic_shapes=axes, opset_version=18, verbose=False,
        )  # fmt: skip
    assert program is not None
    proto = program.model_proto
    del proto.graph.value_info[:]  # quantize_dynamic's shape inference refuses them
    for key, value in facts.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, str(value)
    onnx.save(proto, f"{path}.fp32.onnx")
    quantize_dynamic(
        f"{path}.fp32.onnx",
        f"{path}.int8.onnx",
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
