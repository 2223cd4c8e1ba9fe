# SPDX-License-Identifier: Apache-2.0
"""How a server of OpenStack's asks Keystone who somebody is."""

AUTHTOKEN = """
[keystone_authtoken]
auth_url = {keystone}
auth_type = password
username = {user}
password = secret
project_name = service
user_domain_id = default
project_domain_id = default
service_token_roles = service
service_token_roles_required = true
"""
