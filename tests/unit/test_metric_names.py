"""Which counter becomes which metric: each one exactly once, under names and labels as Prometheus has them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import pytest
from prometheus_client.samples import Sample

from ipvsca import counters
from ipvsca.counters import Meaning
from ipvsca.dataplane import Count
from ipvsca.web.metrics import Series, _of_counters

MEANINGS = (*counters.meanings(), *counters.SWEPT.values())
LABELS = {"protocol", "source", "call", "result", "reason", "event"}

every_counter = pytest.mark.parametrize("meaning", MEANINGS, ids=lambda meaning: meaning.name)


def exported(meanings: Iterable[Meaning]) -> list[Sample]:
    """What becomes of counters, of which the first is 1, the second 2 and so on."""
    counts = [Count(meaning, (total, 0), 0, None) for total, meaning in enumerate(meanings, 1)]
    return [sample for family in _of_counters(counts) for sample in family.samples]


def test_each_counter_is_exported_once() -> None:
    samples = exported(MEANINGS)
    assert sorted(sample.value for sample in samples) == list(range(1, len(MEANINGS) + 1))
    assert max(Counter((sample.name, *sorted(sample.labels.items())) for sample in samples).values()) == 1


def test_each_metric_has_the_same_labels_throughout() -> None:
    labels: dict[str, set[str]] = {}
    for sample in exported(MEANINGS):
        assert labels.setdefault(sample.name, set(sample.labels)) == set(sample.labels)


@every_counter
def test_names_and_labels(meaning: Meaning) -> None:
    series = Series.of(meaning)
    assert re.fullmatch(r"ipvsca_[a-z]+(_[a-z]+)*", series.metric)
    assert series.labels.keys() <= LABELS
    assert series.help.endswith(".") or series.help == meaning.help
    words = {*meaning.name.split("_")}
    for label, value in series.labels.items():
        assert {*value.split("_")} <= words | {"tcp", "none"}, f"{label} is not from the counter's name"


@pytest.mark.parametrize(
    ("counter", "metric", "labels"),
    [
        ("tcp_restored_ack", "ipvsca_connections", {"protocol": "tcp", "source": "ack"}),
        ("tcp_restored_announcement", "ipvsca_connections", {"protocol": "tcp", "source": "announcement"}),
        ("tcp_no_client", "ipvsca_connections", {"protocol": "tcp", "source": "none"}),
        ("announcement_learnt", "ipvsca_clients_learnt", {"source": "announcement"}),
        ("opp_learnt", "ipvsca_clients_learnt", {"source": "opp"}),
        ("syn_expired", "ipvsca_clients_expired", {"source": "syn"}),
        ("flows_expired", "ipvsca_flow_events", {"event": "expired"}),
        ("flows_taken_over", "ipvsca_flow_events", {"event": "taken_over"}),
        ("recvmsg_restored", "ipvsca_calls", {"call": "recvmsg", "result": "restored"}),
        ("getsockopt_not_nat64", "ipvsca_calls", {"call": "getsockopt", "result": "not_nat64"}),
        ("refused_ipo_untrusted", "ipvsca_refused", {"source": "ipo", "reason": "untrusted"}),
        ("something_else", "ipvsca_something_else", {}),
    ],
)
def test_where_a_counter_goes(counter: str, metric: str, labels: dict[str, str]) -> None:
    series = Series.of(Meaning(0, counter, "what it means"))
    assert (series.metric, series.labels) == (metric, labels)


def test_a_counter_to_come_is_explained_by_its_own_words() -> None:
    (sample,) = exported([Meaning(0, "something_else", "what it means")])
    assert (sample.name, sample.value) == ("ipvsca_something_else_total", 1)
    assert Series.of(Meaning(0, "something_else", "what it means")).help == "what it means"
