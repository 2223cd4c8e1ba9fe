# SPDX-License-Identifier: Apache-2.0
"""A cloud that cannot be asked is nobody's mistake: the caller is told its words and when to come back."""

import pytest
from falcon import testing
from oslo_config import cfg

from statera.api.app import build
from statera.config import load
from statera.drivers.network.noop import NoopNetwork
from statera.errors import GiveUp, TryAgain
from statera.store import tables
from statera.store.engine import Store

WISH = {"loadbalancer": {"vip_subnet_id": "7f9ef0b7-9b3f-4f6f-8a54-6ed65ea0e6a1", "project_id": "p"}}


class Away(NoopNetwork):
    """A network service that fails whoever asks for a subnet."""

    def __init__(self, error):
        super().__init__()
        self._error = error

    def subnet(self, subnet_id, caller):
        raise self._error


@pytest.mark.parametrize("error", [
    pytest.param(TryAgain("cloud_silent", "Neutron does not answer: too slow"), id="it is slow"),
    pytest.param(GiveUp("cloud_refuses", "the service user is not let in"), id="our password is wrong"),
])
def test_the_caller_is_told_what_the_cloud_says_and_to_come_back(tmp_path, error):
    store = Store(f"sqlite:///{tmp_path / 'api.db'}")
    tables.metadata.create_all(store.engine)
    conf, file = cfg.ConfigOpts(), tmp_path / "octavia.conf"
    file.write_text("[api_settings]\nauth_strategy = noauth\n")
    settings = load(conf, [], prog="octavia-api", files=[str(file)])
    client = testing.TestClient(build(settings, conf, store, Away(error)))
    answer = client.simulate_post("/v2.0/lbaas/loadbalancers", json=WISH)
    store.close()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json["faultstring"] == f"{error} Please try again."
