"""Times rmpe convert on the full-size Torch7 network of the paper, 8 + 4 stacks with random weights; and its memory.

    python tools/bench_convert.py [--rounds N] [NAME ...]

NAME: what to convert to (default: out/, net.safetensors, net.onnx and net.py). Each is a process of its own, as a user
would start it. The network's structure is that of fullsize_rmpe_graph.json in tests/golden/torch7/models.tar.xz.
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

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))  # where .t7 files are written

CHILD = """
import pathlib, re, sys, time
from rmpe_legacy.cli import main
code = main(sys.argv[1:])
status = pathlib.Path("/proc/self/status").read_text()
print(code, time.process_time(), re.search(r"VmHWM:\\s+(\\d+)", status)[1])
"""


def write_network(path: Path) -> int:
    """The .t7 file; the number of its parameters."""
    from packed import unpacked
    from t7_network import Network
    from t7_writer import write

    graph = unpacked("torch7/models") / "fullsize_rmpe_graph.json"
    network = Network(json.loads(graph.read_text()))
    write(path, network.root)
    return network.parameters


def convert(source: Path, destination: str, *options: str) -> tuple[float, float, int]:
    """Seconds on the clock, seconds of the processor, peak memory in MB."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", CHILD, "convert", source, destination, *options], check=True,
                          capture_output=True, text=True)
    wall = time.perf_counter() - start
    code, seconds, kilobytes = done.stdout.split()[-3:]
    if code != "0":
        raise SystemExit(done.stdout + done.stderr)
    return wall, float(seconds), int(kilobytes) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=["out/", "net.safetensors", "net.onnx", "net.py"], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--verify", action="store_true", help="with the comparison that follows a conversion")
    args = parser.parse_args()
    options = () if args.verify else ("--no-verify",)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "full.t7")
        count = write_network(source)
        print(f"{count:,} parameters, {source.stat().st_size / 1e6:.0f} MB of .t7; {args.rounds} rounds")
        print(f"{'to':<18}{'median s':>10}{'best s':>9}{'CPU s':>9}{'peak MB':>9}")
        rounds = [[convert(source, f"{folder}/{name}", *options) for name in args.names] for _ in range(args.rounds)]
    for name, runs in zip(args.names, zip(*rounds, strict=True), strict=True):
        wall, seconds, megabytes = zip(*runs, strict=True)
        print(f"{name:<18}{statistics.median(wall):>10.1f}{min(wall):>9.1f}{statistics.median(seconds):>9.1f}"
              f"{max(megabytes):>9}")


if __name__ == "__main__":
    main()
