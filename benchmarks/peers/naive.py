"""`python -m benchmarks.peers.naive PORT`: the perceptron in a FastAPI endpoint, as one writes it in an evening."""

from __future__ import annotations

import sys

import torch
import uvicorn
from benchmarks.modules import Mlp, build
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
module = build(Mlp)


class Sample(BaseModel):
    x: list[float]


@app.post("/predict")
async def predict(sample: Sample) -> dict[str, list[float]]:
    """The model holds up the loop: at one connection nobody else waits for it."""
    with torch.inference_mode():
        return {"output": module(torch.tensor([sample.x]))[0].tolist()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")
