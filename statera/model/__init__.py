# SPDX-License-Identifier: Apache-2.0
"""Frozen records of what is wanted and what is seen; nothing here reads a clock or the world."""
