"""The sleeping model for MLServer; `adapters/mlserver.py` writes the settings that name it."""

from __future__ import annotations

import numpy as np
from benchmarks.torture.peers.habit import run
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Habit(MLModel):  # type: ignore[misc]
    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0])
        answer = np.array(run(rows.tolist()), np.float32)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", answer)])
