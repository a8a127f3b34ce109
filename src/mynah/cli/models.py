"""The models that are installed, and what each is.

Without a name: those in MYNAH_HOME and in the package. With a name or folder: what its model.toml
says, whether its parts are whole, and its card.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mynah.errors import ModelError

if TYPE_CHECKING:
    from mynah.model_folder import ModelFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model."""
    parser.add_argument("model", nargs="?", help="a name or folder; all models when left out")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    """List the models, or describe one."""
    from mynah.model_folder import find_model, known_models, model_places, read_model_folder

    if args.model is not None:
        return _describe(read_model_folder(find_model(args.model)), args.json)
    found, broken = [], []
    for name, path in sorted(known_models().items()):
        try:
            found.append((name, read_model_folder(path)))
        except ModelError as error:
            broken.append(str(error))
    if args.json:
        print(_json([{"name": name, **summary(folder)} for name, folder in found]))
    else:
        width = max((len(name) for name, _ in found), default=0)
        for name, folder in found:
            about = summary(folder)
            languages = ",".join(about["languages"]) or "-"
            live = "live" if about["streams"] else "offline"
            show(
                f"{name:<{width}}  {about['family']}  {languages}  {live}  "
                f"{about['megabytes']:.1f} MB  {about['path']}"
            )
        if not found:
            places = " and ".join(map(str, model_places()))
            print(f"no models; they are looked for in {places}")
    for line in broken:
        show(f"unusable: {line}")
    return 1 if broken else 0


def summary(folder: ModelFolder) -> dict[str, Any]:
    """What matters of a model, for a line or a JSON object."""
    info = folder.info
    graphs = [Path(name).name for name in folder.files if name.startswith("onnx/")]
    return {
        "family": info.family,
        "languages": list(info.languages),
        "sample_rate": info.sample_rate,
        "license": info.license,
        "streams": bool(info.streaming.get("chunk")),
        "onnx": sorted({name.split(".")[1] for name in graphs if name.endswith(".onnx")}),
        "weights": folder.has("weights.safetensors"),
        "megabytes": round(_size(folder) / 1e6, 2),
        "path": str(folder.path),
    }


def _size(folder: ModelFolder) -> int:
    paths = [folder.path / name for name in folder.files]
    return sum(path.stat().st_size for path in paths if path.is_file())


def _describe(folder: ModelFolder, as_json: bool) -> int:
    info, about = folder.info, summary(folder)
    try:
        folder.verify()
        problem = ""
    except ModelError as error:
        problem = str(error)
    if as_json:
        entry = {"name": info.name, **about, "training_data": list(info.training_data)}
        print(_json(entry | {"results": info.results, "problem": problem or None}))
        return 2 if problem else 0
    lines = {
        "name": info.name,
        "family": info.family,
        "languages": ", ".join(info.languages) or "not said",
        "sample rate": f"{info.sample_rate} Hz" if info.sample_rate else "none: it reads text",
        "licence": info.license or "not said",
        "live": f"chunks of {info.streaming['chunk']} encoder frames" if about["streams"] else "no",
        "onnx": ", ".join(about["onnx"]) or "none",
        "PyTorch weights": "yes" if about["weights"] else "no",
        "size": f"{about['megabytes']:.1f} MB in {len(folder.files)} files",
        "trained on": ", ".join(info.training_data) or "not said",
        "folder": str(folder.path),
        "parts": problem or "whole (SHA-256 of each)",
    }
    width = max(map(len, lines))
    for key, value in lines.items():
        show(f"{key:<{width}}  {value}")
    for key, value in info.results.items():
        show(f"{'result':<{width}}  {key}: {_value(value)}")
    try:
        card = folder.file("CARD.md") if folder.has("CARD.md") else None
    except ModelError:
        card = None  # has been said above
    if card is not None:
        print()
        for line in card.read_text(encoding="utf-8", errors="replace").rstrip().splitlines():
            show(line)
    return 2 if problem else 0


def show(line: str) -> None:
    """Print a line of a stranger's folder; what a terminal would obey is written as numbers."""
    from mynah.model_folder import CONTROL

    print(CONTROL.sub(lambda m: m[0] if m[0] == "\t" else ascii(m[0])[1:-1], line))


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(item)}" for key, item in value.items())
    return str(value)


def _json(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False, indent=2)
