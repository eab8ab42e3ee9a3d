"""What /metrics, /healthz and /readyz say, and that no client can make more of it."""

import math

import pytest

from support.live_service import png
from support.painted import Painted
from support.served_client import client_of, form, reason
from wordmask.serving.metrics import Histogram, Metrics


def families_of(text):
    """{name: (kind, help, {series: value})}, in the way of the format's own description."""
    families, current = {}, ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current, _, told = line[7:].partition(" ")
            assert current not in families
            families[current] = ["", told, {}]
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert name == current
            families[name][0] = kind
        else:
            series, _, value = line.rpartition(" ")
            assert series.startswith(current)
            assert series not in families[current][2]
            families[current][2][series] = float(value)
    return families


def test_every_metric_says_what_it_is_and_of_which_kind():
    with client_of() as client:
        client.post("/v1/segment", **form(png()))
        families = families_of(client.get("/metrics").text)
    assert {kind for kind, _, _ in families.values()} == {"counter", "gauge", "histogram"}
    for name, (kind, told, _) in families.items():
        assert told.endswith(".")
        assert name.endswith("_total") == (kind == "counter")
    assert families["wordmask_ready"][2] == {"wordmask_ready": 1}


def test_histograms_count_what_lies_below_each_bound():
    values = [0.1, 0.2, 0.25, 3, 70]
    histogram = Histogram((0.2, 1.0, 5.0), ["a", 'b"\\\n'])
    for value in values:
        histogram.observe("a", value)
    lines = dict(line.rsplit(" ", 1) for line in histogram.lines("x"))
    for bound in ("0.2", "1", "5", "+Inf"):
        below = sum(value <= (math.inf if bound == "+Inf" else float(bound)) for value in values)
        assert lines[f'x_bucket{{method="a",le="{bound}"}}'] == str(below)
    assert (lines['x_count{method="a"}'], float(lines['x_sum{method="a"}'])) == ("5", pytest.approx(sum(values)))
    assert lines['x_count{method="b\\"\\\\\\n"}'] == "0"


def test_answers_and_networks_are_told_by_method_and_batch():
    with client_of() as client:
        for _ in range(2):
            client.post("/v1/segment", **form(png()))
        client.post("/v1/segment", **form(png(), method="gpt"))
        client.get("/v1/models")
        families = families_of(client.get("/metrics").text)
    answers = families["wordmask_answer_seconds"][2]
    assert answers['wordmask_answer_seconds_count{method="painted"}'] == 2
    assert answers['wordmask_answer_seconds_count{method="none"}'] == 2  # no such method, and a list
    assert families["wordmask_network_seconds"][2]['wordmask_network_seconds_count{method="painted"}'] == 2
    batches = families["wordmask_batch_pictures"][2]
    assert batches['wordmask_batch_pictures_bucket{method="painted",le="1"}'] == 2
    assert batches['wordmask_batch_pictures_sum{method="painted"}'] == 2


def test_clients_cannot_make_more_series():
    with client_of() as client:
        client.post("/v1/segment", **form(png(), method="painted"))
        client.get("/v1/nothing")
        before = families_of(client.get("/metrics").text)
        for number in range(20):
            client.post("/v1/segment", **form(png(), names=[f"name {number}"], method=f"m{number}"))
            client.get(f"/v1/nothing/{number}")
        after = families_of(client.get("/metrics").text)
    assert {name: set(series) for name, (_, _, series) in before.items()} == {
        name: set(series) for name, (_, _, series) in after.items()
    }


def test_prometheus_own_reader_reads_it():
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus_client is not installed")
    metrics = Metrics(['od"d'])
    metrics.answered(200, 0.2, 'od"d')
    metrics.batch('od"d', 3, 0.1)
    families = {family.name: family for family in parser.text_string_to_metric_families(metrics.text())}
    assert families["wordmask_answer_seconds"].type == "histogram"
    samples = {(s.name, s.labels.get("method")): s.value for s in families["wordmask_batch_pictures"].samples}
    assert samples["wordmask_batch_pictures_sum", 'od"d'] == 3


def test_a_service_may_be_alive_and_not_ready():
    with client_of(decoders=2) as client:
        service = client.app.state.service
        assert client.get("/readyz").json()["status"] == "ready"
        assert client.head("/readyz").status_code == 200
        service.stop()
        assert "is being stopped" in reason(client.get("/readyz"), 503)
        assert client.get("/healthz").json()["status"] == "ok"
        service._stopping = None
        service.pool.close()
        assert "decoders are not up" in reason(client.get("/readyz"), 503)
        service.batcher.close()
        answer = client.get("/readyz")
        assert "networks' thread has ended; the decoders" in reason(answer, 503)
        assert "Retry-After" in answer.headers
        assert families_of(client.get("/metrics").text)["wordmask_ready"][2] == {"wordmask_ready": 0}
        assert client.get("/healthz").status_code == 200


def test_readiness_and_liveness_need_no_key():
    with client_of(Painted(), api_key="sesame") as client:
        assert client.get("/readyz").status_code == client.get("/healthz").status_code == 200
        assert client.get("/metrics").status_code == 401
