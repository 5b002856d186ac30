"""Coverage-guided fuzzing of the body decoders: `python -m tests.fuzz.fuzz_bodies --seconds 600`.

What it finds interesting stays in `--folder`, where the next run goes on from; what fails is written there as `crash-…`
(or `timeout-…`). A body that was mended belongs into `tests/fuzz/corpus`, which `make test` replays.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

_CORPUS = Path(__file__).parent / "corpus"
_WORDS = (
    "inputs", "outputs", "name", "shape", "datatype", "data", "id", "parameters", "timeout",
    "values", "text", "image", "count", "is_new", "note", "offset", "rate", "state", "ids",
    "FP16", "FP64", "BYTES", "BOOL", "UINT8", "UINT64", "INT32", "INT64",
)  # fmt: skip
_PIECES = (
    "NaN",
    "-Infinity",
    "true",
    "null",
    "[[",
    "]]",
    "e308",
    "1e400",
    "-0.0",
    "\\\\ud800",
    "9223372036854775808",
)


def main() -> None:
    arguments = _parse()
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed, or has no release for this Python: pip install 'maas[fuzz]'")
    # Instrumented are the modules below `maas` that decode, not their references.
    with atheris.instrument_imports(
        include=["maas.api.body", "maas.api.native", "maas.api.oip", "maas.tensors"]
    ):
        from tests.fuzz.bodies import check, choose
        from tests.fuzz.mutation import mutate

    arguments.folder.mkdir(parents=True, exist_ok=True)
    dictionary = arguments.folder / "dictionary"
    dictionary.write_text("".join(f'"{entry}"\n' for entry in (*(f'\\"{w}\\"' for w in _WORDS), *_PIECES)))
    found = arguments.folder / "corpus"
    found.mkdir(exist_ok=True)
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={arguments.seconds}",
            f"-artifact_prefix={arguments.folder}/",
            f"-dict={dictionary}",
            "-max_len=4096",
            "-timeout=20",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
            str(found),
            str(_CORPUS),
        ],
        lambda data: check(*choose(data)),
        custom_mutator=lambda data, most, seed: mutate(data, most, seed, atheris.Mutate),
    )
    atheris.Fuzz()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
