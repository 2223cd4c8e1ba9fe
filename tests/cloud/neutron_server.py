# SPDX-License-Identifier: Apache-2.0
"""Run by the Python that has Neutron: sets up a Neutron in a folder and serves its API. Of agents there is but a word.

    python3 neutron_server.py FOLDER PORT KEYSTONE DATABASE
"""

import eventlet

eventlet.monkey_patch()
# ruff: noqa: E402

import json
import sys
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa
from authtoken import AUTHTOKEN
from neutron.cmd.eventlet.server import main as serve
from neutron.db.migration.models import head

CONFIGURATION = """
[DEFAULT]
core_plugin = ml2
service_plugins = router,qos
api_paste_config = {folder}/api-paste.ini
bind_host = 127.0.0.1
bind_port = {port}
api_workers = 0
rpc_workers = 0
rpc_state_report_workers = 0
state_path = {folder}
transport_url = fake:/
agent_down_time = 86400
notify_nova_on_port_status_changes = false
notify_nova_on_port_data_changes = false
[experimental]
linuxbridge = true
[database]
connection = {database}
[oslo_concurrency]
lock_path = {folder}
[ml2]
type_drivers = flat,vxlan
tenant_network_types = vxlan
mechanism_drivers = linuxbridge,openvswitch
extension_drivers = port_security,qos
[ml2_type_vxlan]
vni_ranges = 1:1000
"""

PIPELINE = """
[composite:neutron]
use = egg:Paste#urlmap
/: versions
/v2.0: api
[app:versions]
paste.app_factory = neutron.pecan_wsgi.app:versions_factory
[pipeline:api]
pipeline = request_id catch_errors token context extensions resources
[filter:request_id]
paste.filter_factory = oslo_middleware:RequestId.factory
[filter:catch_errors]
paste.filter_factory = oslo_middleware:CatchErrors.factory
[filter:token]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
[filter:context]
paste.filter_factory = neutron.auth:NeutronKeystoneContext.factory
[filter:extensions]
paste.filter_factory = neutron.api.extensions:plugin_aware_extension_middleware_factory
[app:resources]
paste.app_factory = neutron.api.v2.router:APIRouter.factory
"""

ANY = {"bridge_mappings": {}, "interface_mappings": {}, "tunnel_types": ["vxlan"], "tunneling_ip": "127.0.0.1"}
AGENTS = {
    "network-1": ("Linux bridge agent", ANY),
    "network-2": ("Open vSwitch agent", {**ANY, "integration_bridge": "br-two", "datapath_type": "system"}),
    "network-3": ("Open vSwitch agent", {**ANY, "ovs_hybrid_plug": True}),
}
"""What a host's agent is and tells: with that Neutron binds ports to its host."""


def main(folder: Path, port: str, keystone: str, database: str) -> None:
    file = folder / "neutron.conf"
    file.write_text((CONFIGURATION + AUTHTOKEN).format(
        user="neutron", folder=folder, port=port, keystone=keystone, database=database))
    (folder / "api-paste.ini").write_text(PIPELINE)
    tables(sa.create_engine(database))
    sys.argv = ["neutron-server", "--config-file", str(file)]
    serve()


def tables(engine: sa.engine.Engine) -> None:
    """All at once, which takes a tenth of the time of Neutron's migrations."""
    metadata = head.get_metadata()
    metadata.create_all(engine)
    now = datetime.utcnow()
    with engine.begin() as connection:
        connection.execute(sa.insert(metadata.tables["agents"]), [
            {"id": str(uuid4()), "agent_type": kind, "topic": "N/A", "host": host, "binary": kind, "load": 0,
             "admin_state_up": True, "created_at": now, "started_at": now, "heartbeat_timestamp": now,
             "configurations": json.dumps(told)}
            for host, (kind, told) in AGENTS.items()])
    engine.dispose()


main(Path(sys.argv[1]), *sys.argv[2:])
