"""Runs mypy on the package and compares with tools/type_ratchet.json, the errors that each file may still have.

    python tools/type_ratchet.py [--update | --accept]

Exits with 1 if a file has more errors than that. If it has fewer, --update writes the smaller number, so that it cannot
grow again. --accept writes today's numbers, larger ones too: for files that have moved. A test keeps their sum below
150.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
RATCHET = ROOT / "tools" / "type_ratchet.json"
ERROR = re.compile(r"(\S+\.py):\d+: error: ")


def run_mypy() -> list[str]:
    """mypy's lines, one an error. SystemExit if mypy itself fails."""
    done = subprocess.run([sys.executable, "-m", "mypy", "--hide-error-context", "--no-color-output"], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"mypy failed:\n{done.stdout}{done.stderr}")
    errors = [line for line in done.stdout.splitlines() if ERROR.match(line)]
    if bool(errors) != bool(done.returncode):
        raise SystemExit(f"mypy's output is not understood:\n{done.stdout}")
    return errors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the smaller numbers")
    parser.add_argument("--accept", action="store_true", help="write today's numbers")
    args = parser.parse_args()
    lines = run_mypy()
    found = Counter(match[1] for line in lines if (match := ERROR.match(line)))
    allowed: dict[str, int] = dict(sorted(found.items())) if args.accept else json.loads(RATCHET.read_text())
    more = {file for file, count in found.items() if count > allowed.get(file, 0)}
    fewer = {file for file, count in allowed.items() if found[file] < count}
    for line in lines:
        if line.partition(":")[0] in more:
            print(line)
    for file in sorted(more):
        print(f"{file}: {found[file]} type errors, {allowed.get(file, 0)} are allowed")
    if args.update or args.accept:
        allowed = {file: min(count, found[file]) for file, count in sorted(allowed.items()) if found[file]}
        RATCHET.write_text(json.dumps(allowed, indent=1) + "\n")
        fewer = set()
    for file in sorted(fewer):
        print(f"{file}: {found[file]} type errors rather than {allowed[file]}; run {RATCHET.stem}.py --update")
    print(f"mypy: {found.total()} errors, {sum(allowed.values())} allowed")
    return 1 if more else 0


if __name__ == "__main__":
    sys.exit(main())
