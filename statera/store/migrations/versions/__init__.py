# SPDX-License-Identifier: Apache-2.0
"""One file per step of the schema, oldest first by number."""
