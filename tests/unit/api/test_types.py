# SPDX-License-Identifier: Apache-2.0
"""What fields hold, and what is said about values that they do not."""

import pytest

from statera.api.fields import DEFAULT, KEEP, REQUIRED, Field, changed, posted, with_defaults, with_nulls
from statera.api.types import (
    Alpn,
    At,
    Bool,
    Cidr,
    Enum,
    Int,
    Ip,
    ListOf,
    MapOf,
    Nested,
    Number,
    Tags,
    Text,
    Url,
    UrlPath,
    Uuid,
)
from statera.config import Settings
from statera.errors import ApiError, BadField, BadRequest, Conflict

AT = At("field", "pool_.pool", {"field": "whole"})


@pytest.mark.parametrize(("kind", "value", "ours"), [
    pytest.param(Uuid(), "7F9EF0B79B3F4F6F8A546ED65EA0E6A1", "7f9ef0b7-9b3f-4f6f-8a54-6ed65ea0e6a1", id="UUID"),
    pytest.param(Int(1, 9), " 5 ", 5, id="number as text"),
    pytest.param(Int(1, 9), 5.9, 5, id="float is cut"),
    pytest.param(Bool(), "off", False, id="off"),
    pytest.param(Bool(), 1, True, id="one is true"),
    pytest.param(Ip(), "2001:DB8::1", "2001:DB8::1", id="address stays as typed"),
    pytest.param(Cidr(), "10.0.0.5/24", "10.0.0.0/24", id="host bits go"),
    pytest.param(Cidr(), "2001:db8::1", "2001:db8::1/128", id="bare address"),
    pytest.param(Url(), "http://[2001:db8::1]:80/a?b", "http://[2001:db8::1]:80/a?b", id="URL with IPv6"),
    pytest.param(UrlPath(), "/a?b#c", "/a?b#c", id="path with query"),
    pytest.param(Alpn(), "h2", "h2", id="ALPN"),
    pytest.param(ListOf(Ip()), ["192.0.2.1"], ["192.0.2.1"], id="list"),
    pytest.param(MapOf(Text(255)), {"a": "b"}, {"a": "b"}, id="map"),
    pytest.param(Enum((1.0, 1.1)), 1, 1.0, id="number among floats"),
])
def test_good_values(kind, value, ours):
    assert kind.parse(value, AT) == ours


@pytest.mark.parametrize(("kind", "value", "why"), [
    pytest.param(Uuid(), "x", "Value should be UUID format", id="UUID"),
    pytest.param(Uuid(), 7, "Value should be UUID format", id="UUID as number"),
    pytest.param(Text(3), 7, "Value should be string", id="number for text"),
    pytest.param(Text(3), "abcd", "Value should have a maximum character requirement of 3", id="long"),
    pytest.param(Text(3, 1), "", "Value should have a minimum character requirement of 1", id="short"),
    pytest.param(Text(3, pattern="^a$"), "b", "Value should match the pattern ^a$", id="pattern"),
    pytest.param(Int(1, 9), 0, "Value should be greater or equal to 1", id="small"),
    pytest.param(Int(1, 9), 10, "Value should be lower or equal to 9", id="large"),
    pytest.param(Enum(("A", "B")), "a", "Value should be one of: A, B", id="enum"),
    pytest.param(Ip(), "192.0.2.256", "Value should be IPv4 or IPv6 format", id="address"),
    pytest.param(Cidr(), "192.0.2.0/33", "Value should be IPv4 or IPv6 CIDR format", id="CIDR"),
    pytest.param(Url(), "ftp://x", "Value must be a valid URL string", id="URL scheme"),
    pytest.param(Url(), "http://x/ y", "Value must be a valid URL string", id="URL with a blank"),
    pytest.param(UrlPath(), "a", "Value must be a valid URL Path string", id="path without slash"),
    pytest.param(Alpn(), "h3", "Value should be a valid ALPN protocol ID", id="ALPN"),
])
def test_bad_values_name_the_field(kind, value, why):
    with pytest.raises(BadField) as refusal:
        kind.parse(value, AT)
    assert str(refusal.value) == f"Invalid input for field/attribute field. Value: '{value}'. {why}"


@pytest.mark.parametrize(("kind", "value", "why"), [
    pytest.param(Int(1, 9), "x", "invalid literal for int() with base 10: 'x'", id="number"),
    pytest.param(Bool(), "maybe", "Value not an unambiguous boolean: maybe", id="bool"),
    pytest.param(ListOf(Ip()), "x", "Value not a valid list: x", id="list"),
])
def test_values_of_another_shape_name_the_argument(kind, value, why):
    with pytest.raises(BadField) as refusal:
        kind.parse(value, AT)
    assert str(refusal.value) == (
        f"Invalid input for field/attribute pool_.pool. Value: '{{'field': 'whole'}}'. {why}")


def test_a_tag_twice_is_a_conflict():
    with pytest.raises(Conflict):
        Tags().parse(["a", "a"], AT)


FIELDS = (
    Field(name="name", type=Text(255), post=""),
    Field(name="port", type=Int(), post=REQUIRED, put=False),
    Field(name="weight", type=Int(), post=1, null=DEFAULT),
    Field(name="timeout", type=Int(), post=lambda settings: settings.haproxy_amphora.timeout_client_data, null=DEFAULT),
    Field(name="tags", type=Tags(), post=[], null=[], null_put=KEEP),
    Field(name="project_id", type=Text(36), put=False),
    Field(name="created_at"),
)


def test_a_post_gets_its_defaults():
    sent = posted(FIELDS, {"port": "80", "timeout": None}, argument="x")
    assert with_defaults(FIELDS, sent, Settings()) == {
        "name": "", "port": 80, "weight": 1, "timeout": 50_000, "tags": [], "project_id": None}


def test_a_put_changes_what_it_says():
    sent = changed(FIELDS, {"weight": None, "tags": None, "name": "x"}, argument="x")
    assert with_nulls(FIELDS, sent, Settings()) == {"weight": 1, "name": "x"}


@pytest.mark.parametrize(("body", "fault"), [
    ({"port": 1, "colour": "red"}, "Unknown attribute for argument x: colour"),
    ({"port": 1, "colour": "red", "b": 1}, "Unknown attributes for argument x: colour, b"),
    ({"port": 1, "created_at": "now"}, "Unknown attribute for argument x: created_at"),
    ({}, "Invalid input for field/attribute port. Value: 'None'. Mandatory field missing."),
])
def test_bad_bodies(body, fault):
    with pytest.raises(ApiError) as refusal:
        posted(FIELDS, body, argument="x")
    assert str(refusal.value) == fault


def test_nested_bodies_are_named_by_their_way():
    outer = (Field(name="child", type=Nested(FIELDS)),)
    with pytest.raises(BadRequest) as refusal:
        posted(outer, {"child": {"port": 1, "colour": "red"}}, argument="x")
    assert str(refusal.value) == "Unknown attribute for argument x.child: colour"


def test_tenant_wins():
    assert posted(FIELDS, {"port": 1, "project_id": "a", "tenant_id": "b"}, argument="x")["project_id"] == "b"


def test_a_bad_item_is_shown_with_its_whole_list():
    with pytest.raises(BadField) as refusal:
        ListOf(Cidr()).parse(["10.0.1.0/33", "172.16.0.0/16"], At("allowed_cidrs", "listener_.listener", {}))
    assert str(refusal.value) == ("Invalid input for field/attribute allowed_cidrs. Value: '['10.0.1.0/33', "
                                  "'172.16.0.0/16']'. Value should be IPv4 or IPv6 CIDR format")


@pytest.mark.parametrize("value", ["1.1", 1.1], ids=["as text", "as a number"])
def test_a_number_may_come_as_text(value):
    assert Number((1.0, 1.1)).parse(value, At("http_version", "health_monitor_.healthmonitor", {})) == 1.1


@pytest.mark.parametrize("value", ["1.2", True, [], {}, "one", "nan"])
def test_another_number_is_refused(value):
    with pytest.raises(BadField, match=r"Value should be one of: 1\.0, 1\.1"):
        Number((1.0, 1.1)).parse(value, At("http_version", "health_monitor_.healthmonitor", {}))
