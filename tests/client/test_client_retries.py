"""What is tried again, when, and what never is."""

from __future__ import annotations

import httpx
import pytest

from maas.client import Client
from maas.errors import (
    Aborted,
    ConnectionLost,
    DeadlineExceeded,
    MaasError,
    ModelFailed,
    ModelNotReady,
    QueueFull,
    ServerUnreachable,
    Unavailable,
    WorkerDied,
)

OK = httpx.Response(200, json={"y": [1.25]})


def refusal(code: str = "queue_full", status: int = 503, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"error": "not now", "code": code}, headers=headers)


class Script:
    """Gives one outcome after the other, the last one for ever, and counts the requests."""

    def __init__(self, *outcomes: httpx.Response | Exception) -> None:
        self.outcomes = list(outcomes)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return httpx.Response(outcome.status_code, headers=outcome.headers, content=outcome.content)


def predict(ask, script, time, **options):
    timeout = options.pop("timeout", None)
    return ask("predict", "m", {"x": [0.5]}, handler=script, time=time, options=options, timeout=timeout)


@pytest.mark.parametrize(
    "outcome",
    [
        refusal("queue_full"),
        refusal("model_not_ready"),
        refusal("draining", **{"Retry-After": "1"}),
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
    ],
    ids=["queue_full", "model_not_ready", "draining", "ConnectError", "ConnectTimeout"],
)
def test_what_was_not_executed_is_tried_again(ask, time, outcome):
    """After a refusal or without a connection the same request is sent again, under the same id."""
    script = Script(outcome, outcome, OK)
    assert predict(ask, script, time).outputs["y"].tolist() == [1.25]
    assert len(script.requests) == 3
    assert len({request.headers["x-request-id"] for request in script.requests}) == 1
    assert len({request.content for request in script.requests}) == 1


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (refusal("worker_died"), WorkerDied),
        (refusal("draining"), Aborted),
        (refusal("unavailable"), Unavailable),
        (refusal("from_later"), Unavailable),
        (httpx.Response(503, html="<html>", headers={"Retry-After": "1"}), Unavailable),
        (httpx.Response(502, html="<html>"), Unavailable),
        (httpx.Response(429, html="<html>"), MaasError),
        (httpx.Response(200, html="<html>"), Unavailable),
        (refusal("model_error", 500), ModelFailed),
        (refusal("error", 500), MaasError),
        (refusal("deadline_exceeded", 504), DeadlineExceeded),
        (httpx.ReadError("reset"), ConnectionLost),
        (httpx.WriteError("broken pipe"), ConnectionLost),
        (httpx.RemoteProtocolError("disconnected"), ConnectionLost),
        (httpx.ReadTimeout("slow"), DeadlineExceeded),
        (httpx.WriteTimeout("slow"), DeadlineExceeded),
    ],
)
def test_what_may_have_run_is_sent_once(ask, time, outcome, kind):
    """A failure after which the model may have seen the request is raised at once."""
    script = Script(outcome)
    with pytest.raises(kind):
        predict(ask, script, time)
    assert sum(request.method == "POST" for request in script.requests) == 1
    assert time.pauses == []


IN_DOUBT = [
    (refusal("worker_died"), WorkerDied),
    (refusal("draining"), Aborted),
    (httpx.ReadError("reset"), ConnectionLost),
    (httpx.RemoteProtocolError("disconnected"), ConnectionLost),
]


@pytest.mark.parametrize(("outcome", "kind"), IN_DOUBT)
def test_what_may_have_run_is_sent_again_to_an_idempotent_model(ask, time, outcome, kind):
    """The server is asked what the model says, then the same request goes out again after a pause."""
    script = Script(outcome, httpx.Response(200, json={"idempotent": True}), OK)
    assert predict(ask, script, time, jitter=lambda: 0.5).outputs["y"].tolist() == [1.25]
    first, question, second = script.requests
    assert (question.method, question.url.path) == ("GET", "/models/m")
    assert first.content == second.content
    assert first.headers["x-request-id"] == second.headers["x-request-id"]
    assert time.pauses == [0.05]


@pytest.mark.parametrize(
    "said",
    [
        httpx.Response(200, json={"idempotent": False}),
        httpx.Response(200, json={}),
        httpx.Response(200, html="<html>"),
        refusal("model_not_found", 404),
        httpx.ConnectError("refused"),
    ],
    ids=["no", "nothing", "a stranger", "not found", "gone"],
)
@pytest.mark.parametrize(("outcome", "kind"), IN_DOUBT)
def test_without_the_model_s_word_it_is_sent_once(ask, time, outcome, kind, said):
    """Where the model is not idempotent, or nobody says that it is, the first problem is what is raised."""
    script = Script(outcome, said)
    with pytest.raises(kind):
        predict(ask, script, time)
    assert [request.method for request in script.requests] == ["POST", "GET"]


def test_without_retries_nobody_is_asked(ask, time):
    """The question is asked only where its answer would matter."""
    script = Script(refusal("worker_died"))
    with pytest.raises(WorkerDied):
        predict(ask, script, time, retries=0)
    assert len(script.requests) == 1


def test_the_server_is_told_how_long_it_has(ask, time):
    """`X-Request-Timeout` is what is left of the call's own timeout, less with each attempt."""
    script = Script(refusal(**{"retry-after-ms": "250"}), OK)
    predict(ask, script, time, timeout=2.0)
    assert [request.headers["x-request-timeout"] for request in script.requests] == ["2.000", "1.750"]


@pytest.mark.parametrize(("retries", "sent"), [(0, 1), (2, 3), (5, 6)])
def test_retries_are_counted(ask, time, retries, sent):
    """`retries` attempts follow the first; then the last refusal is raised."""
    script = Script(refusal())
    with pytest.raises(QueueFull, match="not now"):
        predict(ask, script, time, retries=retries)
    assert len(script.requests) == sent


@pytest.mark.parametrize("code", ["queue_full", "model_not_ready", "draining"])
def test_the_servers_pause_is_kept_to(ask, time, code):
    """`retry-after-ms`, or else `Retry-After`, is exactly how long the client waits."""
    script = Script(
        refusal(code, **{"Retry-After": "1", "retry-after-ms": "250"}),
        refusal(code, **{"Retry-After": "3"}),
        OK,
    )
    predict(ask, script, time)
    assert time.pauses == pytest.approx([0.25, 3.0])


def test_without_a_hint_pauses_are_random_below_a_doubling_ceiling(ask, time):
    """Full jitter: a share of 0.1 s, 0.2 s, 0.4 s … and never of more than 5 s."""
    with pytest.raises(QueueFull):
        predict(ask, Script(refusal()), time, retries=8, jitter=lambda: 0.5)
    assert time.pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.5, 2.5])


def test_a_pause_that_leaves_no_time_is_not_begun(ask, time):
    """A refusal with a longer `Retry-After` than the caller's timeout is raised at once."""
    script = Script(refusal(**{"Retry-After": "60"}))
    with pytest.raises(QueueFull) as caught:
        predict(ask, script, time, timeout=30.0)
    assert (len(script.requests), time.pauses) == (1, [])
    assert caught.value.retry_after == 60


def test_the_timeout_is_for_all_attempts_together(ask, time):
    """Time spent in attempts and in pauses counts against one deadline."""

    class Slow(Script):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            time.now += 4
            return super().__call__(request)

    script = Slow(refusal(**{"Retry-After": "2"}))
    with pytest.raises(QueueFull):
        predict(ask, script, time, timeout=11.0, retries=100)
    assert len(script.requests) == 2  # 4 + 2 + 4 s are over: another pause would leave nothing
    assert time.pauses == [2.0]


def test_other_calls_are_tried_again_too(ask, time):
    """A list of models is asked for again under the same rules."""
    script = Script(httpx.ConnectError("refused"), httpx.Response(200, json={"models": []}))
    assert ask("models", handler=script, time=time) == []
    with pytest.raises(ModelNotReady):
        ask("model", "m", handler=Script(refusal("model_not_ready")), time=time)


def test_health_is_asked_once(ask, time):
    """A probe is about now: a refusal is its answer."""
    script = Script(refusal("draining", **{"Retry-After": "1"}))
    assert ask("is_ready", handler=script, time=time) is False
    assert (len(script.requests), time.pauses) == (1, [])


def test_the_last_problem_is_what_is_raised(ask, time):
    """When a server goes away during the retries, the error says so."""
    with pytest.raises(ServerUnreachable):
        predict(ask, Script(refusal(), httpx.ConnectError("refused")), time)


def test_every_phase_of_an_exchange_waits_for_what_is_left(time):
    """Connecting, sending and waiting share one deadline; a connection has its own limit besides."""
    waits: list[float] = []

    def handler(request: httpx.Request) -> httpx.Response:
        timeouts = request.extensions["timeout"]
        for phase in ("pool", "connect", "write", "read"):
            waits.append(timeouts.get(phase))
            time.now += 3
        return OK

    transport = httpx.MockTransport(handler)
    with (
        Client(transport=transport, clock=time.clock, sleep=time.sleep) as client,
        pytest.raises(DeadlineExceeded),
    ):
        client.predict("m", {"x": [1]}, timeout=10.0)
    assert waits == pytest.approx([10, 5, 4, 1])
