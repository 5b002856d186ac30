"""What a call by gRPC costs the gateway, beside one by HTTP and one to a server that does nothing.

    python -m benchmarks.grpc

Closed loop with 16 callers over one channel, or 16 connections, to a model that costs next to nothing: one row of 16 floats, and one
of 262,144, which is 1 MiB. "Nothing" is a `grpc.aio` server in a process of its own, on the same loop, whose method reads a
message and answers with as many bytes as the model's answer has: what is left of a call when the server is free. The time
is that of the serving process by the kernel, all of its threads.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import uvloop
from benchmarks.brightness import Brightness
from benchmarks.harness import Serving, free_port, running, serving, wait_for
from benchmarks.load import request
from benchmarks.rounds import Measured, arguments, cell, finish, interleave, new_table
from benchmarks.torture.processes import cpu_seconds

import maas
from maas.api.grpc.messages import ModelInferRequest, ModelInferResponse
from maas.api.grpc.service import NAME
from maas.bench.clients import send
from maas.bench.dialects import Protocol, encode_body
from maas.bench.inputs import Field, Form
from maas.bench.load import Load

_CALLERS = 16
_SIZES = {"small": 16, "1 MiB": 262_144}  # floats of a row
_METHOD = f"/{NAME}/ModelInfer"
_COLUMNS = {"server µs": 0, "calls/s": 0}  # and their digits


@dataclass(frozen=True)
class Target:
    """Where calls go, and whose time they cost."""

    port: int
    pid: int


def main() -> None:
    if "--nothing" in sys.argv:
        uvloop.run(serve_nothing(int(sys.argv[-1])))
        return
    options = arguments(__doc__, rounds=5, seconds=2.0).parse_args()
    table = new_table("grpc", ["", *_COLUMNS])
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        publish(folder / "models")
        port = free_port()
        server = stack.enter_context(serving(folder / "models", server={"port": 0, "grpc_port": port}))
        nothing = stack.enter_context(doing_nothing(folder))
        callers = stack.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
        turns: dict[str, Callable[[], Measured]] = {}
        for name, size in _SIZES.items():
            message = encode(size)
            for where, target in (("maas", Target(port, server.pid)), ("nothing", nothing)):
                turns[f"gRPC, {name}, {where}"] = partial(measure, callers, target, message, options.seconds)
            turns[f"HTTP, {name}, maas"] = partial(measure_http, server, size, options.seconds)
        for turn in turns.values():  # warm up
            turn()
        rounds = interleave(turns, options.rounds)
    for name, measured in rounds.items():
        cells = [cell([each[column] for each in measured], digits) for column, digits in _COLUMNS.items()]
        table.rows.append([name, *cells])
    table.notes.append(f"{_CALLERS} callers, {options.rounds} rounds of {options.seconds:g} s each")
    table.notes.append(
        f"grpcio {grpc.__version__}; HTTP has JSON where it is small and a binary tensor where it is not"
    )
    finish(table, options.json)


def publish(repository: Path) -> None:
    for size in _SIZES.values():
        maas.publish(
            Brightness,
            {"image": np.ones((2, 1, 1, size), np.float32)},
            name=f"rows-{size}",
            repository=repository,
            outputs={"mean": "float32[batch]"},
        )


def encode(size: int) -> bytes:
    row = np.full((1, 1, 1, size), 0.5, np.float32)
    tensor = ModelInferRequest.InferInputTensor(name="image", datatype="FP32", shape=row.shape)
    asked = ModelInferRequest(model_name=f"rows-{size}", inputs=[tensor], raw_input_contents=[row.tobytes()])
    return asked.SerializeToString()


def measure(callers: Executor, target: Target, message: bytes, seconds: float) -> Measured:
    before = cpu_seconds([target.pid])
    calls = callers.submit(call, target.port, message, seconds).result()
    return {"server µs": (cpu_seconds([target.pid]) - before) / calls * 1e6, "calls/s": calls / seconds}


def call(port: int, message: bytes, seconds: float) -> int:
    """How many calls were answered, in a process of its own."""
    return asyncio.run(_call(port, message, seconds))


async def _call(port: int, message: bytes, seconds: float) -> int:
    loop = asyncio.get_running_loop()
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        infer = channel.unary_unary(_METHOD)
        end = loop.time() + seconds

        async def go_on() -> int:
            calls = 0
            while loop.time() < end:
                await infer(message, timeout=30)
                calls += 1
            return calls

        return sum(await asyncio.gather(*[go_on() for _ in range(_CALLERS)]))


def measure_http(server: Serving, size: int, seconds: float) -> Measured:
    row = np.full((1, 1, 1, size), 0.5, np.float32)
    form = Form((Field("image", "float32", ("batch", 1, 1, size)),))
    protocol = Protocol.NATIVE if size < 1000 else Protocol.BINARY
    body = encode_body(protocol, form, {"image": row})
    path = f"/predict/rows-{size}" if protocol is Protocol.NATIVE else f"/v2/models/rows-{size}/infer"
    headers = [f"{name}: {value}" for name, value in body.headers.items()]
    asked = request(path, body.content, *headers)
    before = cpu_seconds([server.pid])
    tally = send(Load("127.0.0.1", server.port, (asked,), _CALLERS, seconds=seconds, warm_up=0.0))
    if tally.errors:
        raise RuntimeError(f"not answered well: {tally.errors}")
    spent = cpu_seconds([server.pid]) - before
    return {"server µs": spent / tally.requests * 1e6, "calls/s": tally.completed / tally.seconds}


@contextmanager
def doing_nothing(folder: Path) -> Iterator[Target]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.grpc", "--nothing", str(port)]
    log = folder / "nothing.log"
    with running(command, log) as process:
        wait_for(lambda: int("listening" in log.read_text()), 30.0)
        yield Target(port, process.pid)


async def serve_nothing(port: int) -> None:
    answer = ModelInferResponse(raw_output_contents=[bytes(4)], model_name="nothing", model_version="1")
    content = answer.SerializeToString()

    async def infer(_message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        return content

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(infer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("listening", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    main()
