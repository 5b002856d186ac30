"""What a small request costs on its way to a model process and back: an echo of 8 floats.

    python -m benchmarks.gateway [--peers] [--wrk]

Closed loop over 64 keep-alive connections, one sample in a request. The baseline is a bare ASGI application under
uvicorn, without batcher or model process; ratios are to its turn in the same round. `--peers` adds mosec and LitServe.
"""

from __future__ import annotations

from benchmarks.contest import contest
from benchmarks.harness import publish_echo

ECHO = [[0.25 * (number + row) for number in range(8)] for row in range(32)]


def main() -> None:
    contest("gateway", __doc__, "echo", publish_echo, ECHO)


if __name__ == "__main__":
    main()
