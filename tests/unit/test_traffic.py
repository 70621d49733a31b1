"""What the counters add up to, how fast that grows, how full the table of flows is."""

from __future__ import annotations

import pytest

from ipvsca import counters, traffic
from ipvsca.dataplane import Count
from ipvsca.traffic import CONNECTIONS_RESTORED, DATAGRAMS_RESTORED, FIGURES, REFUSALS, Reading
from ipvsca.web.history import History

MEANINGS = {meaning.name: meaning for meaning in (*counters.meanings(), *counters.SWEPT.values())}


def counts(**totals: int) -> dict[str, Count]:
    return {name: Count(meaning, (totals.get(name, 0),), 0, None) for name, meaning in MEANINGS.items()}


def reading(at_s: float, **totals: int) -> Reading:
    return Reading(at_s, {figure: figure.total(counts(**totals)) for figure in FIGURES})


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_each_figure_counts_something(figure: traffic.Figure) -> None:
    assert figure.total(counts(**dict.fromkeys(MEANINGS, 1))) > 0


def test_totals() -> None:
    found = counts(tcp_restored_ack=1, tcp_restored_syn=2, tcp_no_client=4, refused_ack_length=8, refused_syn_length=16)
    assert CONNECTIONS_RESTORED.total(found) == 3
    assert REFUSALS.total(found) == 24
    assert DATAGRAMS_RESTORED.total(found) == 0


def test_rates() -> None:
    rates = reading(14, tcp_restored_ack=30, recvmsg_restored=7).rates_since(reading(10, tcp_restored_ack=10))
    assert rates[CONNECTIONS_RESTORED] == 5
    assert rates[DATAGRAMS_RESTORED] == 1.75
    assert rates[REFUSALS] == 0


def test_counters_that_began_anew_have_no_negative_rate() -> None:
    assert reading(2, tcp_restored_ack=1).rates_since(reading(1, tcp_restored_ack=9))[CONNECTIONS_RESTORED] == 0


def test_the_history_of_a_figure() -> None:
    """Its rate in each interval; the rate now is one over the last two of them."""
    history = History()
    assert history.rates() is None
    history._readings = (reading(0), reading(5, tcp_restored_ack=5))
    assert history.rates() == history._readings[1].rates_since(history._readings[0])
    history._readings += (reading(10, tcp_restored_ack=15), reading(15, tcp_restored_ack=35))
    assert history.course(CONNECTIONS_RESTORED) == [1, 2, 4]
    rates = history.rates()
    assert rates
    assert rates[CONNECTIONS_RESTORED] == 3


@pytest.mark.parametrize(
    ("totals", "flows"),
    [
        ({}, 0),
        ({"flows_new": 9}, 9),
        ({"flows_new": 9, "flows_taken_over": 1, "flows_expired": 2, "flows_evicted": 3, "flows_replaced": 4}, 3),
        ({"flows_new": 99}, 10),  # the kernel has dropped some, and the next sweep finds that
        ({"flows_new": 1, "flows_expired": 2}, 0),
    ],
)
def test_flows_in_the_table(totals: dict[str, int], flows: int) -> None:
    assert traffic.flows(counts(**totals), 10) == flows
