"""Fuzz a reader: python tools/fuzz FORMAT SECONDS [--inputs N] [--seed S] [--keep DIR], or --replay FILE for one input.

Inputs are mutations of known good files. A finding is any exception but an RmpeError, a crash, more than 2 s of the
processor, more memory than four times the file and 64 MB, anything printed, or a line of more than 1,000 characters in
a message. Input N of a seed is the same in every run. Exit code: 0 without a finding, 1 with one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from targets import TARGETS
from worker import PLACE, case, ready

DRAWS = 20  # that a replayed input is read with: some readers are drawn
BUSY = 60.0  # seconds of the processor without a new input after which a worker is stuck in C
SILENCE = 600.0  # and seconds of the clock: a machine with much else to do may not give it the processor for long
FOLDER = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())


def main() -> int:
    parser = argparse.ArgumentParser("fuzz", description=__doc__)
    parser.add_argument("format", choices=TARGETS)
    parser.add_argument("seconds", type=float, nargs="?", default=60.0)
    parser.add_argument("--inputs", type=int, default=1 << 62, metavar="N", help="stop after N inputs")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="where findings go (default: build/fuzz)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run this input alone")
    args = parser.parse_args()
    if args.replay:
        return replay(args.format, args.replay)
    return supervise(args.format, args.seconds, args.inputs, args.seed, args.keep)


def replay(kind: str, path: Path) -> int:
    data = path.read_bytes()
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        os.chdir(folder)  # a network may name files to write
        judge = ready(kind, Path(folder))
        draws = (Random(i) for i in range(DRAWS))
        wrong = next(filter(None, (judge(data, random) for random in draws)), "")
    print(f"{wrong}\n{judge.details}" if wrong else "no finding")
    return 1 if wrong else 0


def supervise(kind: str, seconds: float, inputs: int, seed: str, keep: Path) -> int:
    """Run workers one after the other until the time is up; one that dies is a finding, and the next goes on."""
    keep.mkdir(parents=True, exist_ok=True)
    number = done = read = 0
    spent = busy = 0.0
    findings: dict[str, str] = {}
    while spent < seconds and done < inputs:
        with tempfile.TemporaryDirectory(prefix=f"fuzz-{kind}-", dir=FOLDER) as folder:
            work = Path(folder)
            died, took = _work(kind, number, seed, seconds - spent, inputs - done, work)
            number, new, new_read, new_busy = PLACE.unpack((work / "place").read_bytes())
            done, read, spent, busy = done + new, read + new_read, spent + took, busy + new_busy
            findings |= _collect(kind, seed, keep, work)
            if died:
                findings.setdefault(died, _crashed(kind, seed, keep, number))
                number, done = number + 1, done + 1
            if not new and died:
                print(f"{kind}: the worker ends at its first input: {died}", file=sys.stderr)
                return 1
    rate = done / max(busy, 1e-9)
    print(f"{kind}: {done:,} mutated inputs in {spent:.0f} s, {rate:,.0f} per second of the CPU, "
          f"{100 * read // max(done, 1)} % of them read; {len(findings) or 'no'} "
          f"finding{'' if len(findings) == 1 else 's'} (seed {seed})")
    for wrong, where in findings.items():
        print(f"  {wrong}: {where}")
    return 1 if findings else 0


def _work(kind: str, first: int, seed: str, seconds: float, inputs: int, work: Path) -> tuple[str, float]:
    """One worker: how it died, if it did, and the seconds it ran after its start."""
    place = work / "place"
    place.write_bytes(PLACE.pack(-1, 0, 0, 0.0))
    script = Path(__file__).resolve().with_name("worker.py")
    command = [sys.executable, script, kind, first, seed, seconds, inputs, work]
    with open(work / "log", "wb") as log:
        worker = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, cwd=work,
                                  env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"})
        began = changed = time.monotonic()
        busy = 0.0
        last = place.read_bytes()
        while worker.poll() is None:
            time.sleep(0.1)
            now = place.read_bytes()
            if last != now:
                began = time.monotonic() if PLACE.unpack(last)[0] < 0 else began
                last, changed, busy = now, time.monotonic(), _processor_seconds(worker.pid)
            elif _processor_seconds(worker.pid) - busy > BUSY or time.monotonic() - changed > SILENCE:
                worker.kill()
                worker.wait()
                return "stuck in a library", time.monotonic() - began
    if worker.returncode:
        last_line = (work / "log").read_text("utf-8", "replace").strip().rpartition("\n")[2]
        return f"crash, exit code {worker.returncode} ({last_line[:120]})", time.monotonic() - began
    return "", time.monotonic() - began


def _processor_seconds(process: int) -> float:
    """What a child has used so far."""
    used = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")


def _collect(kind: str, seed: str, keep: Path, work: Path) -> dict[str, str]:
    """Keep a worker's findings: wrong -> the files they are in."""
    listed = work / "findings.json"
    out = {}
    for wrong, about in json.loads(listed.read_text()).items() if listed.exists() else ():
        base = f"{kind}-{seed}-{about['number']}"
        for path in work.glob(f"{about['number']}*"):
            shutil.copy(path, keep / f"{base}{path.name.removeprefix(str(about['number']))}")
        (keep / f"{base}.about").write_text(f"{wrong}\n{about['details']}\n")
        out[wrong] = str(keep / base) + ".*"
    return out


def _crashed(kind: str, seed: str, keep: Path, number: int) -> str:
    """Make the input that ended a worker once more, and keep it."""
    target = TARGETS[kind]()
    path = keep / f"{kind}-{seed}-{number}{target.suffix}"
    path.write_bytes(case(target, seed, number)[0])
    return str(path)


if __name__ == "__main__":
    sys.exit(main())
