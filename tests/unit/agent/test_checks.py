# SPDX-License-Identifier: Apache-2.0
"""When a member counts as up, and what is asked of it."""

import pytest
from msgspec.structs import replace

from statera.agent import sctp
from statera.agent.asking import Target, checksum, expects, request
from statera.agent.checks import beat, carried, is_up
from statera.wire import MonitorSpec

MONITOR = MonitorSpec(type="TCP", delay=5, timeout=5, max_retries=2, max_retries_down=3)


def history(results, monitor=MONITOR):
    pulse, said = monitor.max_retries, []
    for result in results:
        pulse = beat(pulse, monitor, is_well=result == "+")
        said.append("U" if is_up(pulse, monitor) else "d")
    return "".join(said)


@pytest.mark.parametrize(("results", "said"), [
    pytest.param("-", "d", id="the first failure takes a new member down"),
    pytest.param("+--+--", "UUUUUU", id="two failures of three are forgiven"),
    pytest.param("+---", "UUUd", id="three in a row are not"),
    pytest.param("-++", "ddU", id="two successes bring it back"),
    pytest.param("-+-++", "ddddU", id="a failure between starts the count anew"),
    pytest.param("-++---", "ddUUUd", id="who is back is forgiven again"),
])
def test_members_rise_and_fall(results, said):
    assert history(results) == said


def test_up_stays_up_when_the_numbers_change():
    stricter = MonitorSpec(type="TCP", delay=5, timeout=5, max_retries=9, max_retries_down=1)
    assert is_up(carried(2, MONITOR, stricter), stricter)
    assert not is_up(carried(1, MONITOR, stricter), stricter)


@pytest.mark.parametrize(("codes", "good", "bad"), [
    pytest.param("200", 200, 201, id="one"),
    pytest.param("200,202", 202, 201, id="list"),
    pytest.param("200-204,301", 203, 205, id="range"),
])
def test_expected_codes(codes, good, bad):
    assert expects(codes, good)
    assert not expects(codes, bad)


def test_a_host_is_named_to_http_1_1():
    named = MonitorSpec(type="HTTP", delay=1, timeout=1, max_retries=1, http_version=1.1, domain_name="example.org",
                        http_method="HEAD", url_path="/up")
    asked = request(Target(named, "10.0.0.1", 80))
    assert asked == b"HEAD /up HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n"
    nameless = replace(named, domain_name=None)
    assert b"\r\nHost: [fd00::1]\r\n" in request(Target(nameless, "fd00::1", 80))
    assert b"Host" not in request(Target(replace(named, http_version=1.0), "10.0.0.1", 80))


def test_a_checksum_makes_the_whole_sum_up_to_nothing():
    data = bytes(range(24))
    whole = data + checksum(data).to_bytes(2, "big")
    assert checksum(whole) == 0


def test_an_sctp_packet_is_read_as_it_was_written():
    packet = sctp.Packet(4001, 53, 0, sctp.INIT, 7)
    assert sctp.parsed(sctp.packed(packet)) == packet
    assert sctp.parsed(b"short") is None
    # RFC 3720, B.4: the checksum of 32 bytes of nought.
    assert sctp.crc32c(bytes(32)) == 0x8A9136AA
