"""Names from outside, on every route that takes one: what is served is found, all else is a 404 that touches no file."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from tests.api.harness import in_loop
from tests.names import BAD_NAMES, touched
from tests.versions import store

from maas.api.app import create_app
from maas.api.codec import Codec
from maas.api.compression import Compressor
from maas.batching.backlog import Backlog
from maas.batching.permits import Permits
from maas.config import Configuration
from maas.gateway import Gateway
from maas.models.live import Hooks, LiveOptions, LiveVersion
from maas.models.registry import Registry
from maas.models.repository import Repository, StoredVersion
from maas.telemetry.metrics import Metrics
from maas.telemetry.requests import AccessPolicy, RequestRecorder
from maas.types import check_model_name
from maas.workers.launcher import Launcher

ODD = [*BAD_NAMES, "CON", "nul.txt", "Model", "mod\u0435l", "a" * 64, "1" * 31]  # the last few could be names
BODY = b'{"x": [1, 2]}'


@asynccontextmanager
async def application(root: Path) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """The application over a repository on disk, operators' operations included; no model is started."""

    def make_live(stored: StoredVersion, options: LiveOptions) -> LiveVersion:
        return LiveVersion(
            stored,
            options,
            launcher=Launcher(),
            permits=Permits(1),
            backlog=Backlog(1, 1),
            hooks=Hooks(*[lambda *_: None for _ in fields(Hooks)]),
        )

    metrics = Metrics(list)
    gateway = Gateway(Registry(Repository(root), Configuration(), make_live))
    codec = Codec(Launcher(), Backlog(1, 1), 1, Compressor())
    app = create_app(gateway, codec, metrics, RequestRecorder(metrics, AccessPolicy()), allow_control=True)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://maas") as client:
        for method, path, _ in requests(app, "nobody"):
            await client.request(
                method, path
            )  # what a route reads of its own at its first call, it has read then
        yield app, client


def requests(app: FastAPI, name: str) -> list[tuple[str, str, bool]]:
    """Every method and path with `name` where an operation takes a name, and whether it stands for the model.

    They are those of the document, so that a new operation cannot be forgotten, and those that it lists by model.
    """
    templates = [*app.openapi()["paths"].items()]
    templates += [(f"/predict/{{model}}{suffix}", {"post": {}}) for suffix in ("", "/versions/{version}")]
    found = []
    for template, operations in templates:
        for parameter in re.findall(r"{(\w+)}", template):
            escaped = quote(name, safe="").replace(".", "%2e")  # or a client would resolve the dots itself
            path = template.format(**{"model": "model", "version": "1", parameter: escaped})
            found += [(method.upper(), path, parameter == "model") for method in operations]
    return found


@pytest.mark.parametrize("name", ODD, ids=lambda name: ascii(name)[:20])
def test_odd_name_is_not_found_on_any_route(tmp_path: Path, name: str) -> None:
    """As the model or as the version it is a short 404; nothing outside the repository is opened or listed, and nothing at
    all for what cannot name a model."""
    root = tmp_path / "models"
    store(root)

    @in_loop
    async def run() -> None:
        async with application(root) as (app, client):
            asked = requests(app, name)
            assert len(asked) >= 18
            for method, path, is_model in asked:
                with touched() as paths:
                    answer = await client.request(method, path, content=BODY)
                assert answer.status_code == 404, (method, path, answer.text)
                assert answer.json()["error"]
                assert len(answer.content) < 600
                assert all(Path(touched).is_relative_to(root) for touched in paths), paths
                assert not (paths and is_model and not _may_be_a_name(name)), paths

    run()


@pytest.mark.parametrize(
    "path",
    [
        "/predict/../model",
        "/predict/..%2fmodel",
        "/predict/%252e%252e%252fmodel",
        "/predict//model",
        "/predict/model//versions/1",
        "/v2/models/..%5c..%5cmodel/infer",
        "/v2//models/model",
        "/models/model%00",
        "/models/model%0d%0aSet-Cookie:%20a",
        "/admin/models/..%2f..%2fmodel/load",
        "/admin/models/model/versions/..%2f1/load",
        "/docs/assets/../../pyproject.toml",
        "/docs/assets/..%2f..%2fpyproject.toml",
        "/docs/assets/%2fetc%2fpasswd",
        "/docs/assets/a%00b",
        "/docs/assets/" + "a" * 10_000,
    ],
    ids=lambda path: path[:40],
)
def test_crooked_path_is_not_found(tmp_path: Path, path: str) -> None:
    """However a path leads elsewhere, escaped once or twice, by GET or POST: 404 in JSON, no header of the caller's making,
    nothing opened."""
    root = tmp_path / "models"
    store(root)

    @in_loop
    async def run() -> None:
        async with application(root) as (_, client):
            for method in "GET", "POST":
                url = client.base_url.copy_with(raw_path=path.encode())
                with touched() as paths:
                    answer = await client.request(method, url, content=BODY)
                assert answer.status_code in (404, 405), (
                    answer.text
                )  # the latter where the route is of another method
                assert answer.json()["error"]
                assert "set-cookie" not in answer.headers
                assert all(Path(touched).is_relative_to(root) for touched in paths), paths

    run()


def _may_be_a_name(name: str) -> bool:
    try:
        return bool(check_model_name(name))
    except ValueError:
        return False
