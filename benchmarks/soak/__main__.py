"""`python -m benchmarks.soak [--minutes 30]`: prints what was done and what it left; exit code 1 where something grew."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import describe_machine
from benchmarks.soak.run import soak


def main() -> int:
    parser = argparse.ArgumentParser(description="Soak a server in mixed traffic with faults.")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (default: 30)")
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        report = soak(Path(folder), minutes * 60)
    print(describe_machine())
    print(report)
    failures = report.failures()
    print("\n".join(failures) or "nothing grew")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
