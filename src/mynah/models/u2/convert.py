"""Import of WeNet checkpoints: a folder with final.pt, train.yaml, units.txt and global_cmvn.

WeNet: https://arxiv.org/abs/2102.01547. Everything that changes what the model computes is either
taken over or refused by name; settings of its training are left behind.
"""

from __future__ import annotations

import json
import logging
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mynah.config import as_dict, build
from mynah.errors import ConfigError, MissingDependency, ModelError, nearest
from mynah.model_folder import ModelInfo, write_model_folder
from mynah.models.u2.model import NOT_LIVE, U2, U2Config
from mynah.models.u2.wenet_names import convert, sources
from mynah.nn.weights import check_names, fill, write_weights
from mynah.text import UnitTokenizer, wenet_tokenizer

logger = logging.getLogger(__name__)

Values = Mapping[str, Any]


@dataclass(frozen=True)
class _Rules:
    """What a table of train.yaml may hold."""

    taken: dict[str, str]  # WeNet's key: ours
    needed: dict[str, tuple[Any, ...]]  # the values for which nothing need be done
    ignored: frozenset[str]  # no effect on what the model computes
    biases: dict[str, tuple[str, ...]]  # flag: ends of the tensors that are not there when false

    def check(self, values: Values, where: str) -> None:
        """Refuse what cannot be represented.

        Raises:
            ModelError: naming the key and its value.
        """
        known = self.taken.keys() | self.needed.keys() | self.ignored | self.biases.keys()
        for key, value in values.items():
            if key not in known:
                raise ModelError(f"{where}.{key}: not known{nearest(key, known)}")
            if key in self.needed and value not in self.needed[key]:
                raise ModelError(f"{where}.{key}: {value!r} cannot be represented")

    def translate(self, values: Values) -> dict[str, Any]:
        """Our values for those that are taken over under another name."""
        return {ours: values[key] for key, ours in self.taken.items() if key in values and ours}

    def absent(self, values: Values) -> tuple[str, ...]:
        """Ends of the names of biases that the checkpoint goes without."""
        return tuple(
            e for flag, ends in self.biases.items() if not values.get(flag, True) for e in ends
        )


_ATTENTION_BIASES = {
    "query_bias": (".self_attn.linear_q.bias", ".self_attn.linear_out.bias"),
    "key_bias": (".self_attn.linear_k.bias",),
    "value_bias": (".self_attn.linear_v.bias",),
    "mlp_bias": (".w_1.bias", ".w_2.bias"),
}
_SHARED_NEEDED: dict[str, tuple[Any, ...]] = {
    "layer_norm_type": ("layer_norm",),
    "n_kv_head": (None,),
    "head_dim": (None,),
    "mlp_type": ("position_wise_feed_forward",),
}
_SHARED_IGNORED = frozenset(
    {"gradient_checkpointing", "use_sdpa", "n_expert", "n_expert_activated", "tie_word_embedding"}
)
_ENCODER = _Rules(
    taken={
        "output_size": "dim",
        "attention_heads": "heads",
        "linear_units": "hidden",
        "num_blocks": "layers",
        "dropout_rate": "dropout",
        "positional_dropout_rate": "position_dropout",
        "attention_dropout_rate": "attention_dropout",
        "activation_type": "activation",
        "normalize_before": "norm_first",
        "final_norm": "final_norm",
        "norm_eps": "norm_eps",
        "cnn_module_kernel": "kernel",
        "macaron_style": "macaron",
        # these need more than another name
        **dict.fromkeys(
            (
                "input_layer",
                "pos_enc_layer_type",
                "selfattention_layer_type",
                "use_cnn_module",
                "causal",
                "cnn_module_norm",
                "conv_norm_eps",
                "use_dynamic_chunk",
                "static_chunk_size",
            ),
            "",
        ),
    },
    needed={
        **_SHARED_NEEDED,
        "positionwise_conv_kernel_size": (1,),
        "conv_inner_factor": (2,),
    },
    ignored=_SHARED_IGNORED | {"use_dynamic_left_chunk"},
    biases={
        **_ATTENTION_BIASES,
        "conv_bias": tuple(
            f".conv_module.{part}.bias"
            for part in ("pointwise_conv1", "depthwise_conv", "pointwise_conv2")
        ),
    },
)
_DECODER = _Rules(
    taken={
        "num_blocks": "layers",
        "r_num_blocks": "reverse_layers",
        "attention_heads": "heads",
        "linear_units": "hidden",
        "activation_type": "activation",
        "normalize_before": "norm_first",
        "norm_eps": "norm_eps",
        "dropout_rate": "dropout",
        "positional_dropout_rate": "position_dropout",
        "self_attention_dropout_rate": "attention_dropout",
        "src_attention_dropout_rate": "cross_dropout",
    },
    needed={
        **_SHARED_NEEDED,
        "input_layer": ("embed",),
        "use_output_layer": (True,),
        "src_attention": (True,),
    },
    ignored=_SHARED_IGNORED,
    biases={
        **_ATTENTION_BIASES,
        "src_query_bias": (".src_attn.linear_q.bias", ".src_attn.linear_out.bias"),
        "src_key_bias": (".src_attn.linear_k.bias",),
        "src_value_bias": (".src_attn.linear_v.bias",),
    },
)
# (pos_enc_layer_type, selfattention_layer_type)
_POSITIONS = {
    ("abs_pos", "selfattn"): "absolute",
    ("rel_pos", "rel_selfattn"): "relative_unshifted",
    ("rope_pos", "rope_abs_selfattn"): "rotary",
    ("no_pos", "selfattn"): "none",
}
_SUBSAMPLING = {"conv2d2": 2, "conv2d": 4, "conv2d6": 6, "conv2d8": 8}
_NORMS = {"layer_norm": "layer", "batch_norm": "batch"}


def import_wenet(source: str | Path, target: str | Path, *, name: str = "") -> Path:
    """Write the model folder ``target`` from the WeNet folder ``source``.

    ``source`` holds ``final.pt``, ``train.yaml``, ``units.txt`` and, where the features are
    normalised and the checkpoint lacks the statistics, ``global_cmvn``.

    Raises:
        ModelError: a file is missing or broken, tensors are missing or left over, or a setting
            cannot be represented; the line names it.
        MissingDependency: PyYAML or safetensors is not installed.
    """
    folder, target = Path(source), Path(target)
    values = _read_yaml(folder / "train.yaml")
    units = _read_units(folder / "units.txt")
    config, absent = wenet_config(values, len(units))
    cmvn = values.get("cmvn") is not None or bool(values.get("cmvn_file"))
    tensors = _read_checkpoint(folder / "final.pt")
    if cmvn:
        tensors = _with_cmvn(tensors, folder / "global_cmvn")
    state = _state(tensors, config, cmvn, absent, str(folder / "final.pt"))
    model = U2(config)
    fill(model, state, str(folder / "final.pt"))
    tokenizer = _tokenizer(values, folder)
    info = _info(values, config, tokenizer, name or target.name)
    with write_model_folder(target, info) as work:
        write_weights(model.state_dict(), work / "weights.safetensors")
        (work / "tokenizer").mkdir()
        tokenizer.save(work / "tokenizer")
        (work / "CARD.md").write_text(_card(info, model), encoding="utf-8")
    return target


def wenet_config(values: Values, units: int) -> tuple[U2Config, tuple[str, ...]]:
    """Our configuration for a ``train.yaml``, and ends of the names of tensors that it lacks.

    Raises:
        ModelError: a setting that cannot be represented.
    """
    for key, wanted in (
        ("model", ("asr_model",)),
        ("encoder", ("conformer", "transformer")),
        ("decoder", ("transformer", "bitransformer", None)),
        ("ctc", ("ctc",)),
    ):
        value = values.get(key, wanted[0])
        if value not in wanted:
            raise ModelError(f"train.yaml: {key}: {value!r} cannot be represented")
    if _table(values, "model_conf").get("apply_non_blank_embedding"):
        raise ModelError("train.yaml: model_conf.apply_non_blank_embedding cannot be represented")
    size = values.get("output_dim", units)
    if size != units:
        raise ModelError(f"train.yaml: output_dim is {size}, units.txt has {units} units")
    decoder, decoder_absent = _decoder_config(values)
    encoder, encoder_absent = _encoder_config(values)
    special = _table(_table(values, "tokenizer_conf"), "special_tokens")
    result = {
        "vocab_size": size,
        "feature_dim": values.get("input_dim", 80),
        "blank": _table(values, "ctc_conf").get("ctc_blank_id", 0),
        "sos": special.get("<sos>", size - 1),
        "eos": special.get("<eos>", size - 1),
        "encoder": encoder,
        "decoder": decoder,
    }
    try:
        return build(U2Config, result), encoder_absent + decoder_absent
    except ConfigError as error:
        raise ModelError(f"train.yaml: {error}") from None


def _encoder_config(values: Values) -> tuple[dict[str, Any], tuple[str, ...]]:
    conf = _table(values, "encoder_conf")
    _ENCODER.check(conf, "train.yaml: encoder_conf")
    conformer = values.get("encoder", "conformer") == "conformer"
    defaults: dict[str, Any] = {
        "num_blocks": 6,
        "pos_enc_layer_type": "rel_pos" if conformer else "abs_pos",
        "selfattention_layer_type": "rel_selfattn" if conformer else "selfattn",
        "activation_type": "swish" if conformer else "relu",
        "macaron_style": conformer,
        "use_cnn_module": conformer,
        "causal": False,
        "cnn_module_norm": "batch_norm",
        "input_layer": "conv2d",
    }
    conf = {**defaults, **conf}
    if not conformer:
        conf |= {"macaron_style": False, "use_cnn_module": False}
    eps = conf.get("norm_eps", 1e-5)
    if conf["use_cnn_module"] and conf.get("conv_norm_eps", 1e-5) != eps:
        raise ModelError("train.yaml: encoder_conf.conv_norm_eps: must equal norm_eps")
    if not conf["macaron_style"] and not conf["use_cnn_module"] and conformer:
        raise ModelError("train.yaml: a conformer without macaron_style and use_cnn_module")
    chosen: dict[str, tuple[Mapping[Any, Any], *tuple[str, ...]]] = {
        "positions": (_POSITIONS, "pos_enc_layer_type", "selfattention_layer_type"),
        "subsampling": (_SUBSAMPLING, "input_layer"),
        "convolution_norm": (_NORMS, "cnn_module_norm"),
    }
    result = _ENCODER.translate(conf)
    for ours, (table, *keys) in chosen.items():
        key = tuple(conf[k] for k in keys) if len(keys) > 1 else conf[keys[0]]
        if key not in table:
            names = " with ".join(f"encoder_conf.{k}: {conf[k]!r}" for k in keys)
            raise ModelError(f"train.yaml: {names} cannot be represented")
        result[ours] = table[key]
    result["convolution"] = "none"
    if conf["use_cnn_module"]:
        result["convolution"] = "causal" if conf["causal"] else "symmetric"
    return result, _ENCODER.absent(conf)


def _decoder_config(values: Values) -> tuple[dict[str, Any], tuple[str, ...]]:
    kind = values.get("decoder", "bitransformer")
    if kind is None:
        return {"layers": 0}, ()
    conf = _table(values, "decoder_conf")
    _DECODER.check(conf, "train.yaml: decoder_conf")
    conf = {"num_blocks": 6, **conf}
    if kind == "bitransformer" and not conf.get("r_num_blocks"):
        raise ModelError("train.yaml: a bitransformer without decoder_conf.r_num_blocks")
    if kind == "transformer":
        conf["r_num_blocks"] = 0
    return _DECODER.translate(conf), _DECODER.absent(conf)


def _table(values: Values, key: str) -> dict[str, Any]:
    found = values.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ModelError(f"train.yaml: {key}: expected a table, got {found!r}")
    return dict(found)


def _state(
    tensors: Mapping[str, Tensor],
    config: U2Config,
    cmvn: bool,
    absent: tuple[str, ...],
    source: str,
) -> dict[str, Tensor]:
    given = {k: v for k, v in tensors.items() if not k.endswith(".pe")}  # tables of sinusoids
    expected = {part: 0 for parts in sources(config, cmvn=cmvn).values() for part in parts}
    for part in expected:
        if absent and part.endswith(absent) and part not in given:
            weight = given.get(part.removesuffix("bias") + "weight")
            if weight is not None:
                given[part] = torch.zeros(weight.shape[0])  # no bias is a bias of zeros
    check_names(expected, given, source)
    return convert(given, config, cmvn=cmvn)


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch thinks of the pickle is in the error
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{path}: not a checkpoint of tensors alone ({reason[:120]})") from None
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise ModelError(f"{path}: holds something other than named tensors")
    return {str(k): v.float() if v.is_floating_point() else v for k, v in loaded.items()}


def _with_cmvn(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    names = ("encoder.global_cmvn.mean", "encoder.global_cmvn.istd")
    if all(name in tensors for name in names):
        return tensors  # what the model was trained with
    mean, istd = read_cmvn(path)
    return {**tensors, names[0]: mean, names[1]: istd}


def read_cmvn(path: Path) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation (F,) of accumulated statistics, JSON or Kaldi text.

    Raises:
        ModelError: the file is missing or neither of both.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read as text ({error})") from None
    try:
        if text.startswith("{"):
            stats = json.loads(text)
            first, second, count = stats["mean_stat"], stats["var_stat"], stats["frame_num"]
        else:
            numbers = [float(word) for word in text.strip("[] \n").split()]
            half = len(numbers) // 2  # sums and the count, then squares and a zero
            first, count, second = numbers[: half - 1], numbers[half - 1], numbers[half:-1]
        if len(first) != len(second) or not first or count <= 0:
            raise ValueError("sums and squares do not match")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ModelError(f"{path}: not statistics of features ({error})") from None
    mean = torch.tensor(first, dtype=torch.float64) / count
    var = torch.tensor(second, dtype=torch.float64) / count - mean.square()
    return mean.float(), var.clamp(min=1e-20).rsqrt().float()


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        raise MissingDependency("pyyaml", extra="train") from None
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"{path}: not YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path}: not a table of settings")
    return values


def _read_units(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from None
    table: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        unit, _, index = line.rstrip().rpartition(" ")
        if not unit or not index.isdecimal():
            raise ModelError(f"{path}: line {number} is not a unit and its number")
        table[int(index)] = unit
    if sorted(table) != list(range(len(lines))):
        raise ModelError(f"{path}: the numbers are not 0 to {len(lines) - 1}, each once")
    return [table[i] for i in range(len(table))]


def _tokenizer(values: Values, folder: Path) -> UnitTokenizer:
    conf = _table(values, "tokenizer_conf")

    def beside(key: str) -> Path | None:  # the yaml has the path on the machine that trained
        return folder / Path(conf[key]).name if conf.get(key) else None

    return wenet_tokenizer(
        folder / "units.txt",
        bpe_model=beside("bpe_path"),
        non_lang_syms=beside("non_lang_syms_path"),
        split_with_space=bool(conf.get("split_with_space")),
        special_tokens=_table(conf, "special_tokens"),
    )


def _info(values: Values, config: U2Config, tokenizer: UnitTokenizer, name: str) -> ModelInfo:
    data = _table(values, "dataset_conf")
    kind = data.get("feats_type", "fbank")
    if kind != "fbank":
        raise ModelError(f"train.yaml: dataset_conf.feats_type: {kind!r} cannot be represented")
    fbank = _table(data, "fbank_conf")
    for key in fbank.keys() - {"num_mel_bins", "frame_length", "frame_shift", "dither"}:
        raise ModelError(f"train.yaml: dataset_conf.fbank_conf.{key}: not known")
    bins = fbank.get("num_mel_bins", 80)
    if bins != config.feature_dim:
        raise ModelError(f"train.yaml: input_dim is {config.feature_dim}, num_mel_bins {bins}")
    rate = _table(data, "resample_conf").get("resample_rate", 16000)
    frontend = {
        "kind": "fbank",
        "rate": rate,
        "num_mels": bins,
        "frame_length": float(fbank.get("frame_length", 25)),
        "frame_shift": float(fbank.get("frame_shift", 10)),
        "scale": 32768.0,  # WeNet's features are of 16-bit integers
    }
    decoding: dict[str, Any] = {"method": "rescoring" if config.decoder.layers else "greedy"}
    if config.decoder.reverse_layers:
        decoding["reverse_weight"] = float(_table(values, "model_conf").get("reverse_weight", 0.0))
    return ModelInfo(
        family="u2",
        name=name,
        sample_rate=rate,
        config=as_dict(config),
        frontend=frontend,
        tokenizer=tokenizer.to_dict(),
        streaming=_streaming(values, config),
        decoding=decoding,
    )


def _streaming(values: Values, config: U2Config) -> dict[str, Any]:
    conf = _table(values, "encoder_conf")
    if config.encoder.convolution == "symmetric":
        return dict(NOT_LIVE)
    if conf.get("use_dynamic_chunk"):
        return {"chunk": 16, "left": 4}
    size = int(conf.get("static_chunk_size", 0))
    return {"chunk": size, "left": 4} if size > 0 else {}


def _card(info: ModelInfo, model: U2) -> str:
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    live = "live and offline" if info.streaming.get("chunk") else "offline only"
    return (
        f"# {info.name}\n\nImported from a WeNet checkpoint by `mynah import wenet`: a U2 model of "
        f"{parameters:.2f} M parameters, {live}, {info.sample_rate} Hz.\n\nTraining data, licence "
        "and error rates are those of the original; the checkpoint does not say them.\n"
    )
