# SPDX-License-Identifier: Apache-2.0
"""What becomes of a cloud's refusals and failures."""

import json

import pytest
from keystoneauth1 import exceptions

from statera.config import ServiceAuth
from statera.drivers.cloud import Cloud, Service
from statera.errors import GiveUp, SetupError, TryAgain


class Answer:
    """A cloud that always says the same: an exception, or a status with a body."""

    def __init__(self, said, body=""):
        self._said = said
        self.status_code, self.text, self.content = said, body, body.encode()

    def request(self, path, method, **asked):
        if isinstance(self._said, Exception):
            raise self._said
        return self

    def json(self):
        return json.loads(self.text)


def neutron(kind, message):
    return json.dumps({"NeutronError": {"type": kind, "message": message, "detail": ""}})


@pytest.mark.parametrize(("answer", "error", "reason", "words"), [
    pytest.param(Answer(exceptions.ConnectFailure("refused")), TryAgain, "cloud_silent", "Neutron does not answer",
                 id="it is down"),
    pytest.param(Answer(exceptions.ConnectTimeout("too slow")), TryAgain, "cloud_silent", "does not answer: too slow",
                 id="it is slow"),
    pytest.param(Answer(exceptions.Unauthorized("no")), GiveUp, "cloud_refuses", "service user of .service_auth.",
                 id="our password is wrong"),
    pytest.param(Answer(exceptions.EndpointNotFound("none")), GiveUp, "cloud_missing", "Neutron cannot be found",
                 id="the catalogue does not know it"),
    pytest.param(Answer(503, "<html><h1>503</h1>Proxy<br/> has\nno backend</html>"), TryAgain, "cloud_failed",
                 "failed with 503: 503 Proxy has no backend", id="a proxy in front of it"),
    pytest.param(Answer(409, neutron("OverQuota", "Quota exceeded for resources: ['port'].")), GiveUp, "quota_met",
                 "Quota exceeded for resources", id="quota reached"),
    pytest.param(Answer(409, neutron("IpAddressGenerationFailure", "No more IP addresses")), TryAgain, "no_address",
                 "No more IP addresses", id="the subnet is full"),
    pytest.param(Answer(403, json.dumps({"forbidden": {"message": "Quota exceeded for cores", "code": 403}})), GiveUp,
                 "quota_met", "Quota exceeded for cores", id="Nova's way to say quota reached"),
    pytest.param(Answer(404, neutron("NetworkNotFound", "Network x could not be found.")), GiveUp, "network_gone",
                 "Network x could not be found", id="the network is gone"),
    pytest.param(Answer(401, "{}"), GiveUp, "cloud_refuses", "refuses: GET /ports .401.", id="token expired for good"),
    pytest.param(Answer(429, "{}"), TryAgain, "cloud_failed", "failed with 429", id="too many requests"),
])
def test_what_a_refusal_means(answer, error, reason, words):
    with pytest.raises(error, match=words) as raised:
        Service(answer, "Neutron").ask("GET", "/ports")
    assert raised.value.reason == reason


def test_what_is_gone_already_is_removed():
    Service(Answer(404, neutron("PortNotFound", "gone")), "Neutron").remove("/ports/x")


@pytest.mark.parametrize("status", [pytest.param(404, id="none"), pytest.param(403, id="not the asker's to see")])
def test_what_nobody_may_see_is_not_there(status):
    assert Service(Answer(status, "{}"), "Neutron").find("/networks/x", token="t") is None


def test_without_keystones_address_nothing_starts():
    with pytest.raises(SetupError, match="auth_url is needed"):
        Cloud(ServiceAuth())
