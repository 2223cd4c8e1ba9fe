# SPDX-License-Identifier: Apache-2.0
"""Load balancing as a service that speaks OpenStack Octavia's v2 API."""

__version__ = "0.1.0"
