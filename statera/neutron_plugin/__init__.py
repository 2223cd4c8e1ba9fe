# SPDX-License-Identifier: Apache-2.0
"""Neutron's service plugin `statera_lbaas`: /v2.0/lbaas on Neutron's endpoint, answered by the load-balancing API.

It runs inside neutron-server, on whatever Neutron brings along; nothing else of Statera is needed or imported there.
"""
