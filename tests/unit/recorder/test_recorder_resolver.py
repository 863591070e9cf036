"""resolv.conf(5) as a namespace has it."""

import pytest

from podcam.recorder.resolver import ResolverConfig, ask
from podcam.wire import dns

CLUSTER = """\
# written by the kubelet
search shop.svc.cluster.local svc.cluster.local cluster.local
nameserver 10.96.0.10
options ndots:5 edns0
"""


def test_search_domains_come_first_where_the_name_has_few_dots() -> None:
    config = ResolverConfig.parse(CLUSTER)
    assert config.servers == ("10.96.0.10",)
    assert config.candidates("db") == [
        "db.shop.svc.cluster.local",
        "db.svc.cluster.local",
        "db.cluster.local",
        "db",
    ]
    assert config.candidates("a.b.c.d.e.example")[0] == "a.b.c.d.e.example"
    assert config.candidates("db.example.") == ["db.example."]


@pytest.mark.parametrize("text", ["", "nameserver\n", "options ndots:x\nsearch\n", "\0\n;;\n"])
def test_what_is_not_understood_is_passed_over(text: str) -> None:
    config = ResolverConfig.parse(text)
    assert config == ResolverConfig((), (), 1)
    assert ask("db", config, lambda make: make()) == frozenset()


def test_a_question_is_what_an_answer_repeats() -> None:
    query = dns.question(4711, "Db.Example.", dns.AAAA)
    assert dns.parse_answer(query) is None
    answer = dns.parse_answer(query[:2] + b"\x81\x80" + query[4:6] + bytes(6) + query[12:])
    assert answer == dns.Answer(4711, "db.example", dns.AAAA, 0, ())


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64 + ".example", ".".join(["abcdefg"] * 40)])
def test_no_question_is_made_for_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        dns.question(1, name, dns.A)
