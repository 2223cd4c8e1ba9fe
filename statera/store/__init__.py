# SPDX-License-Identifier: Apache-2.0
"""The database: the single truth and the only coordinator."""
