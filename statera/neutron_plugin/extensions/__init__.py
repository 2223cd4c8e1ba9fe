# SPDX-License-Identifier: Apache-2.0
"""A folder that Neutron reads for API extensions: each module is one."""
