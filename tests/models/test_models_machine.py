"""The machine that a profile was measured on, and what a server makes of the profile."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from maas.config import ModelOptions
from maas.models.live import scale_of
from maas.models.machine import Machine, describe, this_machine
from maas.models.manifest import Manifest, Profile, RuntimeOptions, read_manifest, to_yaml

CORES = this_machine().cores
INTEL = """processor\t: 0
model name\t: Some Processor @ 2.00GHz
flags\t\t: fpu sse avx2 avx512f avx512_vnni amx_int8
processor\t: 1
model name\t: Another
flags\t\t: fpu avx2
"""


def manifest(machine: Machine | None, instances: int = 1, threads: int = 1) -> Manifest:
    profile = machine and Profile(
        machine=machine,
        target="throughput",
        instances=instances,
        threads=threads,
        samples_per_second=100.0,
        latency=0.01,
        memory=1 << 20,
    )
    return Manifest(
        runtime=RuntimeOptions(name="torch", format="exported"),
        inputs={"x": "float32[batch]"},
        outputs={"y": "float32[batch]"},
        name="model",
        version="2",
        created=datetime.now(UTC),
        files={},
        parent="model/1",
        profile=profile,
    )


def test_a_machine_is_its_processor_cores_and_instructions() -> None:
    """Of the instructions those that decide how fast a model runs, sorted; the first processor speaks for all."""
    expected = Machine(
        cpu="Some Processor @ 2.00GHz", cores=4, features=("amx_int8", "avx2", "avx512_vnni", "avx512f")
    )
    assert describe(INTEL, 4) == expected
    assert describe("", 1).features == ()


def test_a_profile_of_this_machine_sets_what_is_not_configured() -> None:
    """Instances and threads come from the profile where neither is said."""
    assert scale_of(manifest(this_machine(), 1, CORES), ModelOptions()) == (1, CORES)
    assert scale_of(manifest(this_machine(), CORES, 1), ModelOptions()) == (CORES, 1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (ModelOptions(instances=1), (1, 1)),
        (ModelOptions(threads=1), (1, 1)),
        (ModelOptions(instances=1, threads=1), (1, 1)),
        (ModelOptions(device="cuda"), (1, 1)),
    ],
)
def test_the_configuration_goes_before_a_profile(options: ModelOptions, expected: tuple[int, int]) -> None:
    """What an operator says holds, and with it nothing of the profile; another device was not measured."""
    assert scale_of(manifest(this_machine(), 1, CORES), options) == expected


def test_another_machine_s_profile_is_left_aside() -> None:
    """It was measured on other cores: there a version has one instance of one thread."""
    other = this_machine().model_copy(update={"features": ("none",)})
    assert scale_of(manifest(other, 1, CORES), ModelOptions()) == (1, 1)
    assert scale_of(manifest(None), ModelOptions()) == (1, 1)


def test_a_profile_is_read_as_it_was_written() -> None:
    """The manifest keeps the parent and the profile."""
    before = manifest(this_machine(), 1, CORES)
    assert read_manifest(to_yaml(before)) == before


def test_what_else_a_profile_holds_is_left_aside() -> None:
    """One that was written with a size of batches, which is measured at every load, is a profile all the same."""
    text = to_yaml(manifest(this_machine(), 1, CORES)).replace("  threads:", "  batch_size: 8\n  threads:")
    assert "batch_size: 8" in text
    assert scale_of(read_manifest(text), ModelOptions()) == (1, CORES)


def test_a_profile_of_more_threads_than_cores_is_refused() -> None:
    """What could not have been measured is no profile."""
    with pytest.raises(ValidationError, match="are more than 4 cores"):
        manifest(describe(INTEL, 4), 3, 2)
