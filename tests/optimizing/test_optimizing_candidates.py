"""Which forms and placements are tried: tables."""

from __future__ import annotations

import pytest

from maas.optimizing.candidates import batch_sizes, candidates, placements

TORCH = {"format": "exported"}


@pytest.mark.parametrize(
    ("runtime", "options", "files", "allow", "expected"),
    [
        ("torch", TORCH, ["model.pt2"], (), ["torch float32", "onnxruntime float32", "openvino float32"]),
        (
            "torch",
            TORCH,
            ["model.pt2"],
            ("bfloat16", "int8"),
            [
                "torch float32",
                "torch bfloat16",
                "onnxruntime float32",
                "onnxruntime int8",
                "openvino float32",
                "openvino bfloat16",
            ],
        ),
        ("onnxruntime", {}, ["model.onnx"], (), ["onnxruntime float32", "openvino float32"]),
        (
            "openvino",
            {"precision": "bfloat16"},
            ["model.onnx"],
            ("bfloat16",),
            ["openvino float32", "onnxruntime float32", "openvino bfloat16"],
        ),
        ("openvino", {}, ["model.xml", "model.bin"], (), ["openvino float32"]),
        ("python", {"class": "m:C"}, [], ("int8",), ["python float32"]),
    ],
)
def test_a_version_s_forms_begin_with_itself_in_float32(
    runtime: str, options: dict[str, str], files: list[str], allow: tuple[str, ...], expected: list[str]
) -> None:
    """The reference comes first; reduced precisions are there only where the owner allows them."""
    found = candidates(runtime, options, files, allow)
    assert [each.label for each in found] == expected
    assert "precision" not in found[0].options


def test_a_reduced_torch_form_keeps_how_the_parent_loads() -> None:
    """The parent's options go along."""
    (reduced,) = [each for each in candidates("torch", TORCH, [], ("bfloat16",)) if each.is_reduced][:1]
    assert reduced.options == {"format": "exported", "precision": "bfloat16"}


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (1, [(1, 1)]),
        (2, [(1, 1), (2, 1), (1, 2)]),
        (6, [(1, 1), (6, 1), (3, 2), (1, 4), (1, 6)]),
        (8, [(1, 1), (8, 1), (4, 2), (2, 4), (1, 8)]),
    ],
)
def test_placements_use_no_more_than_the_cores(cores: int, expected: list[tuple[int, int]]) -> None:
    """One of one first, then ways to use every core."""
    found = placements(cores)
    assert found == expected
    assert all(instances * threads <= cores for instances, threads in found)


@pytest.mark.parametrize(("most", "expected"), [(1, [1]), (4, [1, 4]), (32, [1, 4, 16, 32]), (5, [1, 4, 5])])
def test_batch_sizes_end_with_the_most_there_may_be(most: int, expected: list[int]) -> None:
    """Powers of four, then the manifest's own limit."""
    assert batch_sizes(most) == expected
