"""One process that mutates, reads and judges; whatever happens to it, the supervisor knows at which input."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import mmap
import os
import resource
import signal
import stat
import struct
import sys
import time
import traceback
import warnings
import weakref
from pathlib import Path
from random import Random
from typing import Any

from minimise import minimise
from targets import TARGETS, Target

SLOW = 2.0  # seconds of the processor that a file under 1 MB may take
STUCK = 6.0  # after which Python interrupts it
MEMORY = 64 << 20  # bytes beyond four times the file, before sizes are checked
SPARE = 24 << 20  # what the allocator itself may take
MESSAGE = 1000  # characters of a line
MEASURED = ("slow", "memory")  # findings that the machine's other work can feign
PLACE = struct.Struct("<qqqd")  # in the shared file: the input's number, inputs done, inputs read, seconds of the CPU
MINIMISING = 20.0  # seconds for each finding


class StuckError(BaseException):
    """Raised by the alarm: no reader may catch it."""


class Judge:
    """Runs readers on an input: "" if all is well, else what is wrong and where."""

    def __init__(self, target: Target, folder: Path):
        from rmpe_legacy.errors import RmpeError

        self.target, self.folder, self.expected = target, folder, RmpeError
        self._memory = Memory()
        self._streams = [fd for fd in (1, 2) if stat.S_ISREG(os.fstat(fd).st_mode)]  # where what is printed shows
        self.taken = False  # whether some reader took the last input
        self.details = ""

    def __call__(self, data: bytes, random: Random) -> str:
        path = self.target.place(data, self.folder)
        self.taken = False
        self._memory.forget_peak()
        before, printed, spent = self._memory.of(b"VmRSS"), self._printed(), 0.0
        for read in self.target.readers(path, random):
            signal.setitimer(signal.ITIMER_PROF, STUCK)
            began = time.process_time()
            try:
                read()
                self.taken = True
            except self.expected as error:
                if wrong := self._sentence(error):
                    return wrong
            except StuckError as error:
                return self._seen("stuck", error)
            except BaseException as error:
                return self._seen(type(error).__name__, error)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                spent = max(spent, time.process_time() - began)
        grown = self._memory.of(b"VmHWM") - before
        if self._printed() != printed:
            self.details = "a line on standard output or standard error"
            return "prints"
        if spent > SLOW * max(1, len(data) / 1e6):
            self.details = f"{spent:.1f} s"
            return "slow"
        if grown > MEMORY + 4 * len(data) + SPARE:
            self.details = f"{grown >> 20} MB for a file of {len(data)} bytes"
            return "memory"
        return ""

    def _printed(self) -> int:
        return sum(os.fstat(fd).st_size for fd in self._streams)

    def _sentence(self, error: Exception) -> str:
        if isinstance(error.__cause__, MemoryError) or "needs more memory" in str(error):
            return self._seen("unchecked allocation", error)
        if max(map(len, str(error).split("\n"))) > MESSAGE:
            return self._seen("long message", error)
        return ""

    def _seen(self, kind: str, error: BaseException) -> str:
        self.details = "".join(traceback.format_exception(error))[-4000:]
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if "/rmpe_legacy/" in f.filename] or frames
        return f"{kind} at {own[-1].filename.split('/rmpe_legacy/')[-1]}:{own[-1].lineno}"


class Memory:
    """What this process takes. The files stay open: to open them takes longer than many a reader."""

    def __init__(self) -> None:
        self._status = os.open("/proc/self/status", os.O_RDONLY)
        self._refs = os.open("/proc/self/clear_refs", os.O_WRONLY)
        for fd in (self._status, self._refs):
            weakref.finalize(self, os.close, fd)

    def forget_peak(self) -> None:
        os.pwrite(self._refs, b"5", 0)

    def of(self, key: bytes) -> int:
        """Bytes: now (VmRSS), at most since the peak was forgotten (VmHWM), or of addresses (VmSize)."""
        status = os.pread(self._status, 8192, 0)
        return 1024 * int(status[status.index(key) + len(key) + 1 :].split(None, 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, kind in (("format", str), ("first", int), ("seed", str), ("seconds", float), ("inputs", int),
                       ("work", Path)):
        parser.add_argument(name, type=kind)
    run(parser.parse_args())


def run(args: argparse.Namespace) -> None:
    judge = ready(args.format, args.work)
    findings: dict[str, dict[str, Any]] = {}
    with open(args.work / "place", "r+b") as file:
        place = mmap.mmap(file.fileno(), PLACE.size)
    number, end, done, taken = args.first, time.monotonic() + args.seconds, 0, 0
    began = time.process_time()
    while time.monotonic() < end and done < args.inputs:
        PLACE.pack_into(place, 0, number, done, taken, time.process_time() - began)
        wrong = judge(*case(judge.target, args.seed, number))
        if wrong in MEASURED:  # once more, without what earlier inputs left behind
            gc.collect()
            wrong = judge(*case(judge.target, args.seed, number))
        done, taken = done + 1, taken + judge.taken
        if wrong and wrong not in findings:
            findings[wrong] = {"number": number, "details": judge.details}
            _keep(judge, args, wrong, number)
            (args.work / "findings.json").write_text(json.dumps(findings))
        number += 1
    PLACE.pack_into(place, 0, number, done, taken, time.process_time() - began)


def ready(kind: str, folder: Path) -> Judge:
    """A judge whose readers have imported what they need, and that keeps within limits."""
    warnings.simplefilter("ignore")
    logging.getLogger("rmpe_legacy").addHandler(logging.NullHandler())  # only the command line shows it
    _limit()
    judge = Judge(TARGETS[kind](), folder)
    for i, seed in enumerate(judge.target.all[:20]):
        judge(seed, Random(i))
    return judge


def case(target: Target, seed: str, number: int) -> tuple[bytes, Random]:
    """Input `number` of a seed, and the draws of its readers: the same in every run, whatever came before."""
    random = Random(f"{seed} {number}")
    return target.mutant(random), Random(f"{seed} {number} readers")


def _keep(judge: Judge, args: argparse.Namespace, wrong: str, number: int) -> None:
    """Write the input and a smaller one that shows the same."""
    data, _ = case(judge.target, args.seed, number)
    path = args.work / f"{number}{judge.target.suffix}"
    path.write_bytes(data)
    if wrong not in MEASURED and not wrong.startswith("stuck"):
        small = minimise(data, lambda smaller: judge(smaller, Random(f"{args.seed} {number} readers")) == wrong,
                         MINIMISING)
        path.with_name(f"{number}.small{judge.target.suffix}").write_bytes(small)


def _limit() -> None:
    """One thread, no core files, an alarm; and memory, so that no input takes the machine down."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = Memory().of(b"VmSize") + (2 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def stuck(*_: object) -> None:
        raise StuckError

    signal.signal(signal.SIGPROF, stuck)


if __name__ == "__main__":
    sys.exit(main())
