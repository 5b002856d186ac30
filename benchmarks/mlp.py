"""A perceptron of three layers over 16 floats, served, and as it runs without a server.

    python -m benchmarks.mlp [--peers] [--wrk]

Closed loop over 64 keep-alive connections, one sample in a request. Ratios are to a bare uvicorn echo of the same
requests in the same round. The offline ceiling is the version's own runner in this process, in batches of 32, one thread.
"""

from __future__ import annotations

import numpy as np
from benchmarks.contest import contest
from benchmarks.harness import publish_mlp
from benchmarks.offline import rows_per_second

SAMPLES = np.random.default_rng(0).standard_normal((32, 16)).astype(np.float32)


def main() -> None:
    rows = [[round(value, 4) for value in row] for row in SAMPLES.tolist()]
    contest(
        "mlp", __doc__, "mlp", publish_mlp, rows, lambda runner: rows_per_second(runner, [{"x": SAMPLES}])
    )


if __name__ == "__main__":
    main()
