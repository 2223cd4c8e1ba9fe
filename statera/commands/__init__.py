# SPDX-License-Identifier: Apache-2.0
"""The entry points: each reads the configuration once, builds the real drivers and starts one thing."""
