"""The model process: loads one version, then runs its batches one after the other until the gateway is gone.

What must hold before a version is called loaded, in this order: its files have the hashes of its manifest, its
runtime loads them, it answers its golden samples, and it has been warmed up. Nothing of the artifact is opened by
anybody before its hash has been checked here.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from maas import runtimes
from maas.errors import BadArtifact, ModelFailed
from maas.runtimes.contract import MANIFEST, Artifact, Placement, Runner
from maas.runtimes.golden import GOLDEN, example_of, load_golden
from maas.runtimes.self_test import self_test
from maas.tensors.check import check_outputs, is_finite
from maas.tensors.packing import Column, Place, plan, read, write
from maas.types import Signature, Tensors
from maas.workers.channel import close_all, new_buffer, receive, send
from maas.workers.failures import describe, translate
from maas.workers.frames import Frame, Load, Loaded, Ping, Pong, Ran, Release, Run
from maas.workers.heap import give_back, keep_freed
from maas.workers.slab import Slab
from maas.workers.warm_up import warm_up

_WARM_PINGS = 2  # which come every second


def serve(sock: socket.socket) -> None:
    """Answer `Load`, then `Run` after `Run`, until the other end is gone, which may be in the middle of an answer."""
    with suppress(ConnectionError):
        _serve(sock)


def _serve(sock: socket.socket) -> None:
    model: Model | None = None
    buffer = new_buffer()
    while (received := receive(sock, buffer)) is not None:
        frame, descriptors = received
        fresh: list[int] = []
        answer: Frame
        try:
            if isinstance(frame, Load):
                model, answer = Model.load(frame)
            elif isinstance(frame, Run) and model is not None:
                answer, fresh = model.run(frame, descriptors)
            elif isinstance(frame, Ping):
                if model is not None:
                    model.cool()
                answer = Pong()
            elif isinstance(frame, Release) and model is not None:
                model.release()
                continue
            else:
                close_all(descriptors)
                continue
        except (Exception, SystemExit) as error:  # whatever a model raises is its request's failure
            answer = describe(translate(error), error)
        send(sock, answer, fresh)


class Model:
    """A loaded version with its two slabs: the gateway writes the inputs', this process the outputs'."""

    def __init__(self, runner: Runner, signature: Signature, max_answer_bytes: int) -> None:
        self._runner = runner
        self._signature = signature
        self._max_answer_bytes = max_answer_bytes
        self._inputs: Slab | None = None
        self._outputs: Slab | None = None
        self._warmth = _WARM_PINGS

    @classmethod
    def load(cls, frame: Load) -> tuple[Model, Loaded]:
        """Raises an error of our tree, or whatever the model's code raises."""
        started = time.perf_counter()
        directory = Path(frame.directory)
        signature = Signature.parse(frame.inputs, frame.outputs, frame.bounds)
        check_hashes(directory, frame.files)
        if frame.allow_code:
            sys.path.append(os.getcwd())  # the operator's own modules lie where the server was started
        runner = runtimes.runtime(frame.runtime).load(
            Artifact(directory, signature, frame.options, frame.allow_code),
            Placement(frame.device, frame.threads),
        )
        keep_freed()
        samples = load_golden(directory, signature, allow_non_finite=frame.allow_non_finite)
        self_test(runner, signature, samples, frame.tolerances)
        curve = warm_up(runner, signature, samples[0], frame.max_batch_size, frame.max_batch_cost)
        model = cls(runner, signature, frame.max_answer_bytes)
        inputs, outputs = example_of(signature, samples[0])
        return model, Loaded(time.perf_counter() - started, curve, inputs, outputs)

    def run(self, frame: Run, descriptors: list[int]) -> tuple[Ran, list[int]]:
        """Run one batch; also the descriptor of the output slab where the gateway does not have it yet."""
        self._warmth = _WARM_PINGS
        if descriptors:
            slab = Slab.attach(descriptors[0])
            if self._inputs is not None:
                self._inputs.free()
            self._inputs = slab
        assert self._inputs is not None, "the first batch brings its slab"
        inputs = {
            spec.name: read(self._inputs.buffer, place, spec.numpy_dtype)
            for spec, place in zip(self._signature.inputs, frame.places, strict=True)
        }
        began = time.monotonic()
        outputs = self._runner.run(inputs)
        compute = time.monotonic() - began
        check_outputs(self._signature, outputs, frame.rows, self._signature.padded_lengths_of(inputs))
        declared = [outputs[spec.name] for spec in self._signature.outputs]
        places, fresh = self._place(outputs)
        return Ran(places, began, compute, all(map(is_finite, declared))), fresh

    def cool(self) -> None:
        """Another second has gone by: where nothing was run in the last ones, what batches have left is given back, once."""
        self._warmth -= 1
        if self._warmth == 0:
            give_back()

    def release(self) -> None:
        """Free the slabs; the next batch brings a new one and takes a new one."""
        for slab in (self._inputs, self._outputs):
            if slab is not None:
                slab.free()
        self._inputs = self._outputs = None

    def _place(self, outputs: Tensors) -> tuple[list[Place], list[int]]:
        columns = [Column([outputs[spec.name]], None) for spec in self._signature.outputs]
        places, nbytes = plan(columns)
        if nbytes > self._max_answer_bytes:
            raise ModelFailed(f"the batch's answer has {nbytes} bytes; the limit is {self._max_answer_bytes}")
        fresh = []
        if self._outputs is None or not self._outputs.suits(nbytes):
            larger = Slab.allocate(nbytes)
            if self._outputs is not None:
                self._outputs.free()
            self._outputs = larger
            fresh.append(self._outputs.descriptor)
        for column, place in zip(columns, places, strict=True):
            write(self._outputs.buffer, place, column)
        return places, fresh


def check_hashes(directory: Path, files: dict[str, str]) -> None:
    """Raise `BadArtifact` unless `directory` holds `files` (name → SHA-256 in hexadecimal) unaltered, and nothing else."""
    there = {entry.name: entry for entry in os.scandir(directory) if entry.name != MANIFEST}
    for name, entry in there.items():
        if name not in files or not entry.is_file(follow_symlinks=False):
            raise BadArtifact(f"{name!r} is no plain file that the manifest lists")
    if GOLDEN not in files:
        raise BadArtifact(f"the manifest does not list {GOLDEN}")
    for name, expected in files.items():
        try:
            with open(directory / name, "rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BadArtifact(f"file {name!r} cannot be read: {error.strerror}") from error
        if actual != expected:
            raise BadArtifact(
                f"file {name!r} was altered: its SHA-256 is {actual}, the manifest says {expected}"
            )
