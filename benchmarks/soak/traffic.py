"""The soak's traffic: callers who must not notice anything, beside callers and an operator who cause trouble."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import yaml
from benchmarks.soak.footprint import model_processes

MODELS = ("double", "changing", "coming", "repeat")
_CALLERS = 6
_PAUSE = 0.02  # seconds between a caller's requests, about
_KILL_SECONDS = 5.0
_RELOAD_SECONDS = 3.0
_LOAD_SECONDS = 4.0
_LOAD_TIMEOUT = 30.0


@dataclass
class Traffic:
    """`outcomes` counts by what was done and what came of it; `surprises` are answers that should not have come."""

    url: str
    gateway: int
    repository: Path
    version: int = 1
    outcomes: Counter[str] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)
    _generator: random.Random = field(default_factory=lambda: random.Random(0))

    async def run(self, seconds: float) -> None:
        """Until then; every connection is closed when this returns."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        async with (
            httpx.AsyncClient(
                base_url=self.url, timeout=60, limits=httpx.Limits(max_connections=64)
            ) as client,
            asyncio.TaskGroup() as group,
        ):

            async def repeatedly(act: Callable[[httpx.AsyncClient], Awaitable[None]], pause: float) -> None:
                while loop.time() < end:
                    await act(client)
                    await asyncio.sleep(
                        min(pause * self._generator.uniform(0.5, 1.5), max(0.0, end - loop.time()))
                    )

            for act in (self._call, self._call_changing, self._ask_for_text):
                for _ in range(_CALLERS):
                    group.create_task(repeatedly(act, _PAUSE))
            group.create_task(repeatedly(self._send_what_raises, _PAUSE * 5))
            group.create_task(repeatedly(self._send_what_is_wrong, _PAUSE * 5))
            group.create_task(repeatedly(self._leave, _PAUSE * 5))
            group.create_task(repeatedly(self._be_late, _PAUSE * 10))
            group.create_task(repeatedly(self._kill, _KILL_SECONDS))
            group.create_task(repeatedly(self._reload, _RELOAD_SECONDS))
            group.create_task(repeatedly(self._load_and_unload, _LOAD_SECONDS))

    async def touch_all(self) -> None:
        """One answer of each model, so that each has its slabs."""
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as client:
            for model in MODELS[:3]:
                await self._expect(client, "touch", f"/predict/{model}", {"x": [1.0, 2.0]}, 200)
            await self._expect(client, "touch", "/predict/repeat", {"n": 300_000}, 200)

    # ── callers who must not notice ──────────────────────────────────────────────────────────────────────────

    async def _call(self, client: httpx.AsyncClient) -> None:
        await self._double(client, "double")

    async def _call_changing(self, client: httpx.AsyncClient) -> None:
        await self._double(client, "changing")

    async def _double(self, client: httpx.AsyncClient, model: str) -> None:
        x = [float(self._generator.randrange(1000)), float(self._generator.randrange(1000))]
        answer = await self._expect(client, f"call {model}", f"/predict/{model}", {"x": x}, 200)
        if answer.status_code == 200 and answer.json() != {"y": [2 * value for value in x]}:
            self.surprises.append(f"{model} doubled {x} to {answer.text}")

    async def _ask_for_text(self, client: httpx.AsyncClient) -> None:
        count = self._generator.choice((1, 100, 10_000, 300_000))
        answer = await self._expect(client, "call repeat", "/predict/repeat", {"n": count}, 200)
        if answer.status_code == 200 and len(answer.json()["text"]) != count:
            self.surprises.append(f"{count} bytes of text came as {len(answer.content)}")

    # ── callers who cause trouble ────────────────────────────────────────────────────────────────────────────

    async def _send_what_raises(self, client: httpx.AsyncClient) -> None:
        await self._expect(client, "raise", "/predict/double", {"x": [-1.0, 0.0]}, 500)

    async def _send_what_is_wrong(self, client: httpx.AsyncClient) -> None:
        await self._expect(client, "mistake", "/predict/double", {"x": [1.0, "two"]}, 400)

    async def _be_late(self, client: httpx.AsyncClient) -> None:
        await self._expect(
            client,
            "deadline",
            "/predict/double",
            {"x": [1050.0, 0.0]},
            503,
            504,
            headers={"X-Request-Timeout": "0.02"},
        )

    async def _leave(self, client: httpx.AsyncClient) -> None:
        """Hang up on a request that is queued or running."""
        try:
            async with asyncio.timeout(self._generator.uniform(0.001, 0.05)):
                await client.post("/predict/double", json={"x": [1030.0, 0.0]})
        except TimeoutError:
            self.outcomes["left"] += 1
        else:
            self.outcomes["stayed"] += 1

    # ── the operator, and what befalls the machine ───────────────────────────────────────────────────────────

    async def _kill(self, _client: httpx.AsyncClient) -> None:
        if processes := model_processes(self.gateway):
            os.kill(self._generator.choice(processes), signal.SIGKILL)
            self.outcomes["killed"] += 1

    async def _reload(self, client: httpx.AsyncClient) -> None:
        """A new version takes over; the one before the old one is deleted, which nobody can be waiting for any more."""
        model = self.repository / "changing"
        old, fresh = model / str(self.version), model / str(self.version + 1)
        staged = self.repository / ".staged"
        shutil.copytree(old, staged)
        manifest = yaml.safe_load((staged / "model.yaml").read_text())
        (staged / "model.yaml").write_text(yaml.safe_dump(manifest | {"version": fresh.name}))
        staged.rename(fresh)
        await self._expect(client, "refresh", "/admin/refresh", None, 200)
        self.version += 1
        await self._wait_for(client, f"/v2/models/changing/versions/{self.version}/ready")
        if (before := model / str(self.version - 2)).exists():
            shutil.rmtree(before)

    async def _wait_for(self, client: httpx.AsyncClient, path: str) -> None:
        for _ in range(int(_LOAD_TIMEOUT / 0.05)):
            if (await client.get(path)).status_code == 200:
                self.outcomes["reloaded"] += 1
                return
            await asyncio.sleep(0.05)
        self.surprises.append(f"{path} was not to be had within {_LOAD_TIMEOUT:g} s")

    async def _load_and_unload(self, client: httpx.AsyncClient) -> None:
        await self._expect(client, "unload", "/admin/models/coming/unload", None, 200)
        await self._expect(client, "load", "/admin/models/coming/load", None, 200)

    async def _expect(
        self,
        client: httpx.AsyncClient,
        what: str,
        path: str,
        body: object,
        *statuses: int,
        **options: dict[str, str],
    ) -> httpx.Response:
        content = None if body is None else json.dumps(body).encode()
        answer = await client.post(path, content=content, **options)  # type: ignore[arg-type]
        self.outcomes[f"{what}: {answer.status_code}"] += 1
        if answer.status_code not in statuses:
            self.surprises.append(f"{what}: {answer.status_code} {answer.text[:200]}")
        return answer
