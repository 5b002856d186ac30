"""The server under load, asked what it has: before and between the points, never while it is measured."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from maas.bench.dialects import Body, Protocol, dtype_of
from maas.bench.inputs import Field, Form, parse_example
from maas.bench.load import Request
from maas.bench.tls import Tls
from maas.client.replies import Reply
from maas.client.wire import decode
from maas.errors import ConnectionLost, InvalidRequest, MaasError, ServerUnreachable, Unavailable
from maas.types import BATCH, Bounds, Tensors, clip

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Server:
    """Where it answers, `host` resolved once; `timeout` in seconds for each question; plain HTTP without `tls`."""

    url: str
    host: str
    port: int
    authority: str
    prefix: str
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 30.0
    tls: Tls | None = None

    @classmethod
    def at(
        cls,
        url: str,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        *,
        ca: Path | None = None,
        insecure: bool = False,
    ) -> Server:
        """`ca` and `insecure` are for an `https` URL: whom to trust, and that anybody is.

        Raises `InvalidRequest` for what is no URL to load and for a bad `ca`, `ServerUnreachable` for a name that is not known.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError as error:
            raise InvalidRequest(f"{url!r} is no URL: {error}") from error
        if parts.scheme not in _PORTS or not host:
            raise InvalidRequest(f"{url!r} is no URL to load; expected one such as http://127.0.0.1:8000")
        tls = Tls(host, ca, not insecure) if parts.scheme == "https" else None
        if tls is not None:
            tls.context()
        try:
            address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0]
        except OSError as error:
            raise ServerUnreachable(f"{host!r} is not known: {error.strerror}") from error
        return cls(url, str(address), port, parts.netloc, parts.path.rstrip("/"), headers or {}, timeout, tls)

    def request(self, path: str, body: Body, rows: int = 1, method: str = "POST") -> Request:
        """A request, whole, as it goes over the wire."""
        headers = {"Host": self.authority, **body.headers, **self.headers}
        headers["Content-Length"] = str(len(body.content))
        lines = [
            f"{method} {self.prefix}{path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        try:
            return Request("\r\n".join([*lines, "", ""]).encode("latin-1") + body.content, rows)
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"a header or path cannot be sent: {error}") from error

    def ask(self, path: str, body: Body | None = None, method: str | None = None) -> Reply:
        """One exchange on a connection of its own."""
        connection = self._connection()
        headers = {"Host": self.authority, **(body.headers if body else {}), **self.headers}
        content = body.content if body else None
        try:
            connection.request(method or ("POST" if body else "GET"), self.prefix + path, content, headers)
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.headers.items()}
            return Reply(self.url, "", answer.status, named, answer.read())
        except ConnectionRefusedError as error:
            raise ServerUnreachable(f"no connection to {self.url}: {error.strerror}") from error
        except ssl.SSLCertVerificationError as error:
            raise ServerUnreachable(
                f"no connection to {self.url}: {error.verify_message}; --ca FILE names whom to trust, --insecure trusts anybody"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            why = str(error) or type(error).__name__
            raise ConnectionLost(f"no answer of {self.url} to {path}: {why}") from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self.tls is None:
            return http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        # By its name, which its certificate is for.
        return http.client.HTTPSConnection(
            self.tls.name, self.port, timeout=self.timeout, context=self.tls.context()
        )

    def metrics(self) -> str | None:
        """The server's metrics in the Prometheus text format; None where it has none, or cannot say now."""
        try:
            reply = self.ask("/metrics")
        except MaasError:
            return None
        return reply.body.decode(errors="replace") if reply.status == http.client.OK else None


@dataclass(frozen=True, slots=True)
class Model:
    """A model by name, and by version where that is said."""

    name: str
    version: str | None = None

    @classmethod
    def parse(cls, text: str) -> Model:
        name, _, version = text.partition("/")
        return cls(name, version or None)

    def path(self, protocol: Protocol) -> str:
        """Where it is asked."""
        version = f"/versions/{quote(self.version, safe='')}" if self.version else ""
        name = quote(self.name, safe="")
        return (
            f"/predict/{name}{version}"
            if protocol is Protocol.NATIVE
            else f"/v2/models/{name}{version}/infer"
        )


def describe(server: Server, model: Model, protocol: Protocol) -> Form:
    """What the model takes, by the metadata that goes with the protocol; raises the error that the server answers with."""
    prefix = "/models" if protocol is Protocol.NATIVE else "/v2/models"
    version = f"/versions/{quote(model.version, safe='')}" if model.version else ""
    document: Any = server.ask(f"{prefix}/{quote(model.name, safe='')}{version}").document()
    try:
        if protocol is Protocol.NATIVE:
            fields = [Field(each["name"], each["dtype"], tuple(each["shape"])) for each in document["inputs"]]
            dimensions = document.get("dimensions", {}).items()
            return Form(tuple(fields), {dim: Bounds(each["min"], each["max"]) for dim, each in dimensions})
        return Form(tuple(_open_inference_field(each) for each in document["inputs"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise Unavailable(
            f"{server.url} does not say what {model.name!r} takes: {clip(repr(document))}"
        ) from error


def _open_inference_field(declared: Mapping[str, Any]) -> Field:
    """A length that is not fixed is -1, and it is the batch where it comes first. Others have no names here, so those at the
    same place are taken for the same, as a text's tokens and their mask have."""
    dtype = dtype_of(declared["datatype"])
    if dtype is None:
        raise InvalidRequest(
            f"input {declared['name']!r} has datatype {declared['datatype']!r}, which is not known here"
        )
    dims = [f"dim{axis}" if length < 0 else length for axis, length in enumerate(declared["shape"])]
    if dims and isinstance(dims[0], str):
        dims[0] = BATCH
    return Field(declared["name"], dtype, tuple(dims))


def example(server: Server, model: Model, form: Form) -> Tensors | None:
    """The example that a server of ours has for a model in its OpenAPI document; None where there is none."""
    reply = server.ask("/openapi.json")
    try:
        document: Any = decode(reply.body)
        path = f"/predict/{model.name}" + (f"/versions/{model.version}" if model.version else "")
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        return parse_example(form, content["example"], "the server's example")
    except (
        ValueError,
        LookupError,
        TypeError,
    ):  # InvalidRequest is a ValueError: it asks for something else than the metadata
        return None


def try_out(server: Server, path: str, body: Body, protocol: Protocol | None, method: str = "POST") -> None:
    """Ask once, so that a load which could only fail is not begun; raises the error that the server answers with."""
    reply = server.ask(path, body, method)
    if 200 <= reply.status < 300:
        return
    said = clip(" ".join(reply.body.decode(errors="replace").split()), 200)
    if protocol is Protocol.BINARY and 400 <= reply.status < 500:
        raise InvalidRequest(
            f"{server.url} answers a request with binary tensors with {reply.status}, so it may not speak that extension "
            f"of the protocol (--protocol oip is the same in JSON): {said}"
        )
    if protocol is None:
        raise InvalidRequest(f"{server.url}{path} answers with {reply.status}: {said}")
    reply.document()
    raise Unavailable(f"{server.url}{path} answers with {reply.status}: {said}")
