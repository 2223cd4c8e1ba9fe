# SPDX-License-Identifier: Apache-2.0
"""Runs in the peer's environment: its tables from its own models, for the databases that its migrations do not know.

The argument is the database's URL.
"""

import sys

from octavia.common import constants
from octavia.db import base_models, models
from sqlalchemy import create_engine, insert

WORDS = {
    models.ProvisioningStatus: constants.SUPPORTED_PROVISIONING_STATUSES,
    models.OperatingStatus: constants.SUPPORTED_OPERATING_STATUSES,
    models.HealthMonitorType: constants.SUPPORTED_HEALTH_MONITOR_TYPES,
    models.Algorithm: constants.SUPPORTED_LB_ALGORITHMS,
    models.Protocol: constants.SUPPORTED_PROTOCOLS,
    models.SessionPersistenceType: constants.SUPPORTED_SP_TYPES,
    models.AmphoraRoles: constants.SUPPORTED_AMPHORA_ROLES,
    models.LBTopology: constants.SUPPORTED_LB_TOPOLOGIES,
    models.VRRPAuthMethod: constants.SUPPORTED_VRRP_AUTH,
    models.L7RuleType: constants.SUPPORTED_L7RULE_TYPES,
    models.L7RuleCompareType: constants.SUPPORTED_L7RULE_COMPARE_TYPES,
    models.L7PolicyAction: constants.SUPPORTED_L7POLICY_ACTIONS,
    models.ClientAuthenticationMode: constants.SUPPORTED_CLIENT_AUTH_MODES,
}
"""Tables that list the values that columns may have."""


def main() -> None:
    engine = create_engine(sys.argv[1])
    base_models.BASE.metadata.create_all(engine)
    with engine.begin() as connection:
        for model, names in WORDS.items():
            connection.execute(insert(model), [{"name": name} for name in names])


if __name__ == "__main__":
    main()
