# SPDX-License-Identifier: Apache-2.0
"""Identity by a real Keystone: tokens, roles, the service catalogue, service tokens."""

import pytest
import requests

LIST = "/v2.0/lbaas/loadbalancers"


def token_of(cloud, user, *, project="demo"):
    with cloud.connect(user, project=project) as connection:
        return connection.auth_token


def ask(cloud, *tokens, path=LIST, **more):
    """The answer to GET *path* with a token and perhaps a service token."""
    headers = dict(zip(("X-Auth-Token", "X-Service-Token"), tokens, strict=False))
    with requests.get(cloud.api + path, headers=headers, timeout=30, **more) as response:
        return response


@pytest.mark.parametrize("tokens", [(), ("nonsense",)], ids=["no token", "a made-up token"])
def test_who_shows_no_good_token_is_told_where_to_get_one(cloud, tokens):
    answer = ask(cloud, *tokens)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == f'Keystone uri="{cloud.keystone}"'
    assert answer.headers["x-openstack-request-id"].startswith("req-")


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json"])
def test_versions_and_documents_need_no_token(cloud, path):
    assert ask(cloud, path=path).status_code == 200


def test_headers_that_claim_an_identity_are_not_believed(cloud):
    forged = {"X-Roles": "admin", "X-Project-Id": "x", "X-User-Id": "x", "X-Identity-Status": "Confirmed"}
    with requests.get(cloud.api + LIST, headers=forged, timeout=30) as answer:
        assert answer.status_code == 401
    with requests.get(cloud.api + "/v2.0/octavia/amphorae", timeout=30,
                      headers=forged | {"X-Auth-Token": token_of(cloud, "member")}) as answer:
        assert answer.status_code == 403


@pytest.mark.parametrize(("user", "project", "read", "write"), [
    ("reader", "demo", 200, 403), ("member", "demo", 200, 201), ("admin", "demo", 200, 201),
    ("reader", "other", 200, 201), ("observer", "demo", 403, 403),
], ids=["reader", "member", "admin", "a member of another project", "an old role means nothing"])
def test_roles_decide(cloud, subnet, user, project, read, write):
    token = token_of(cloud, user, project=project)
    assert ask(cloud, token).status_code == read
    body = {"loadbalancer": {"vip_subnet_id": subnet, "name": user}}
    with requests.post(cloud.api + LIST, json=body, headers={"X-Auth-Token": token}, timeout=30) as answer:
        assert answer.status_code == write, answer.text
    if write == 201:
        made = answer.json()["loadbalancer"]
        foreign = ask(cloud, token_of(cloud, "reader"), path=f"{LIST}/{made['id']}")
        assert foreign.status_code == (403 if project == "other" else 200)


@pytest.fixture(scope="module")
def subnet(cloud):
    with cloud.connect("admin") as admin:
        network = admin.network.create_network(name="keystone", is_shared=True)
        return admin.network.create_subnet(network_id=network.id, ip_version=4, cidr="192.0.2.0/24").id


def test_the_catalogue_leads_clients_here(cloud):
    with cloud.connect("member") as member:
        assert member.load_balancer.get_endpoint() == f"{cloud.api}/v2.0"
        assert list(member.load_balancer.providers())


def test_a_token_is_checked_once(cloud, keystone_log):
    token = token_of(cloud, "member")
    validations = [keystone_log().count("GET /v3/auth/tokens") for _ in (1, 2) if ask(cloud, token).status_code == 200]
    assert validations[0] == validations[1]


@pytest.fixture
def keystone_log(tmp_path_factory):
    file = next(tmp_path_factory.getbasetemp().glob("keystone*/keystone.log"))
    return file.read_text


@pytest.mark.parametrize(("service", "code"), [("octavia", 200), ("forger", 401)], ids=["a service", "anybody"])
def test_service_tokens_count_with_the_service_role_only(cloud, service, code):
    theirs = token_of(cloud, service, project="service" if service == "octavia" else "demo")
    assert ask(cloud, token_of(cloud, "member"), theirs).status_code == code


@pytest.fixture(scope="module")
def custom(clouds, tmp_path_factory):
    """A cloud where the old roles count and the operator closed the list of providers."""
    file = tmp_path_factory.mktemp("policy") / "policy.yaml"
    file.write_text('"os_load-balancer_api:provider:get_all": "rule:load-balancer:admin"\n')
    return clouds(more=f"[oslo_policy]\nenforce_new_defaults = false\npolicy_file = {file}\n")


def test_the_old_roles_come_back_by_option(custom):
    assert ask(custom, token_of(custom, "observer")).status_code == 200


@pytest.mark.parametrize(("user", "code"), [("reader", 403), ("admin", 200)])
def test_operators_override_rules(custom, user, code):
    assert ask(custom, token_of(custom, user), path="/v2.0/lbaas/providers").status_code == code
