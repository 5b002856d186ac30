"""The OpenAPI document of a service, and whether what the service says is what stands in it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import httpx
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from tests.api.harness import Service

JSON = "application/json"
# What HTTP itself, or any server, puts on an answer.
_PLAIN = {"content-type", "content-length", "connection", "date", "server", "allow"}


class Documented:
    """`document` with every object closed: what has a member that is not described is not valid by it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        closed = copy.deepcopy(document)
        for schema in _objects(closed):
            schema.setdefault("additionalProperties", False)
        resource = Resource.from_contents(closed, default_specification=DRAFT202012)
        self._registry = Registry().with_resource("maas:", resource)

    @classmethod
    async def of(cls, service: Service) -> Documented:
        answer = await service.get("/openapi.json")
        assert answer.status_code == 200
        return cls(answer.json())

    @property
    def operations(self) -> dict[str, dict[str, Any]]:
        """Each by method and path."""
        return {
            f"{method.upper()} {path}": operation
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
        }

    def response(self, operation: str, status: int) -> dict[str, Any]:
        """What the operation may answer with that status."""
        found: dict[str, Any] = self.operations[operation]["responses"][str(status)]
        if "$ref" in found:
            found = self.document["components"]["responses"][found["$ref"].rpartition("/")[2]]
        return found

    def request_validator(self, operation: str) -> Draft202012Validator:
        return self._validator(self.operations[operation]["requestBody"])

    def answer_validator(self, operation: str, status: int = 200) -> Draft202012Validator:
        return self._validator(self.response(operation, status))

    def check(self, operation: str, answer: httpx.Response) -> None:
        """The answer's status, type, body and headers are what the document says of the operation."""
        response = self.response(operation, answer.status_code)
        media = answer.headers["content-type"].partition(";")[0]
        assert media in response["content"], (operation, answer.status_code, media)
        if media == JSON:
            self._validator(response).validate(answer.json())
        headers = {name.lower(): header for name, header in response["headers"].items()}
        assert answer.headers.keys() - headers.keys() <= _PLAIN, (operation, answer.headers)
        for name, header in headers.items():
            assert name in answer.headers or not header["required"], (operation, answer.status_code, name)
            if name in answer.headers and header["schema"].get("type") == "integer":
                assert int(answer.headers[name]) >= header["schema"]["minimum"]

    def _validator(self, holder: dict[str, Any]) -> Draft202012Validator:
        schema = _absolute(holder["content"][JSON]["schema"])
        return Draft202012Validator(schema, registry=self._registry)


def _absolute(schema: Any) -> Any:
    """With references into the document by its whole address."""
    if isinstance(schema, list):
        return [_absolute(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: f"maas:{value}" if key == "$ref" else _absolute(value) for key, value in schema.items()}


def _objects(tree: Any) -> Iterator[dict[str, Any]]:
    """All schemas in it of objects with members."""
    if isinstance(tree, list):
        for each in tree:
            yield from _objects(each)
    elif isinstance(tree, dict):
        if tree.get("type") == "object" and isinstance(tree.get("properties", {}), dict):
            yield tree
        for key, each in tree.items():
            if key not in ("example", "default"):
                yield from _objects(each)
