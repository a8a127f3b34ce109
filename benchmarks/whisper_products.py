"""Products in int8 as Whisper's decoder and encoder have them, by blocks and by rows.

    python benchmarks/whisper_products.py [--width 768] [--threads 2]

A chain of 24 products, from the width to four times it and back, of a few rows: one operator with
scales by blocks, and seven with a scale a row (``mynah.models.whisper.graph_parts``). Each kind has
a process of its own, since the threads of a second session would be in the way. Shown are medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PRODUCTS, ROWS, REPEATS = 24, (1, 5, 8, 40), 30


def measure(width: int, threads: int, by_rows: bool) -> dict[int, float]:
    """Milliseconds of the chain by rows that it is of."""
    from mynah.models.whisper.graph_parts import Parts
    from mynah.runtime.engine import open_session
    from mynah.runtime.onnx_writer import GraphWriter

    rng = np.random.default_rng(0)
    shapes = [(4 * width, width), (width, 4 * width)]
    names = [f"w{n}" for n in range(PRODUCTS)]
    tensors = {
        name: (rng.standard_normal(shapes[n % 2]) / width).astype(np.float32)
        for n, name in enumerate(names)
    }
    graph = GraphWriter("products")
    parts = Parts(graph, tensors, int8=True, many=by_rows)
    x = graph.input("x", "float32", ["n", width])
    for name in names:
        x = parts.product(x, f"{name}.out", [name])
    graph.output(x, "float32", ["n", width])
    with tempfile.TemporaryDirectory() as folder:
        graph.write(Path(folder) / "products.onnx")
        session = open_session(Path(folder) / "products.onnx", threads, rewrite=False)
    found = {}
    for rows in ROWS:
        given = {"x": rng.standard_normal((rows, width)).astype(np.float32)}
        times = []
        for _ in range(REPEATS + 3):
            start = time.perf_counter()
            session.run(None, given)
            times.append(time.perf_counter() - start)
        found[rows] = 1000 * statistics.median(times[3:])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="time products in int8")
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kind", choices=("blocks", "rows"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kind:
        print(json.dumps(measure(options.width, options.threads, options.kind == "rows")))
        return
    size = ["--width", str(options.width), "--threads", str(options.threads)]
    for kind in ("blocks", "rows"):
        command = [sys.executable, __file__, *size, "--kind", kind]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        shown = (f"{rows} rows {ms:.2f} ms" for rows, ms in json.loads(done.stdout).items())
        print(f"width {options.width}, by {kind}: {', '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
