# SPDX-License-Identifier: Apache-2.0
"""Drivers of other providers, made against octavia-lib, and what they are told and asked by."""
