"""The DNS question and answer of the test applications, against scapy's."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRR  # type: ignore[import-untyped]

from tests.apps.dns import Question, read_answer

QUESTION = Question("a.lab.test", id=7)
RECORD = DNSRR(rrname="a.lab.test", ttl=1, rdata="192.0.2.53")


def answer(**fields: object) -> bytes:
    """A server's answer to QUESTION, where `fields` do not change it."""
    return bytes(DNS(**{"id": 7, "qr": 1, "qd": DNSQR(qname="a.lab.test"), "an": RECORD, **fields}))


def compressed(packet: bytes) -> bytes:
    """With a pointer to the question's name in the record, as servers write it."""
    name = b"\1a\3lab\4test\0"
    head, question, record = packet.partition(name)
    return head + question + record.replace(name, b"\xc0\x0c")


def test_a_question_is_what_scapy_builds() -> None:
    assert bytes(QUESTION) == bytes(DNS(id=7, rd=1, qd=DNSQR(qname="a.lab.test", qtype="A")))


@pytest.mark.parametrize("name", ["", "a..b", "a.", "a" * 64, "\xe4"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        bytes(Question(name))


def test_reads_an_answer() -> None:
    assert read_answer(QUESTION, compressed(answer())) == IPv4Address("192.0.2.53")
    assert read_answer(QUESTION, compressed(answer(aa=1, ra=1, ar=DNSRR(rrname="x")))) == IPv4Address("192.0.2.53")


@pytest.mark.parametrize(
    "fields",
    [
        {"id": 8},
        {"qr": 0},
        {"tc": 1},
        {"rcode": "refused"},
        {"an": []},
        {"an": [RECORD, RECORD]},
        {"qd": []},
        {"qd": DNSQR(qname="b.lab.test")},
        {"qd": DNSQR(qname="a.lab.test", qtype="AAAA")},
        {"an": DNSRR(rrname="b.lab.test", rdata="192.0.2.53")},
        {"an": DNSRR(rrname="a.lab.test", type="TXT", rdata=b"abc")},
        {"an": DNSRR(rrname="a.lab.test", rclass="CH", rdata="192.0.2.53")},
    ],
    ids=str,
)
def test_refuses_another_answer(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"not the answer for a\.lab\.test"):
        read_answer(QUESTION, compressed(answer(**fields)))


def test_refuses_an_answer_cut_anywhere() -> None:
    whole = compressed(answer())
    for length in range(len(whole)):
        with pytest.raises(ValueError, match="not the answer"):
            read_answer(QUESTION, whole[:length])
