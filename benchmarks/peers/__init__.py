# SPDX-License-Identifier: Apache-2.0
"""Statera and the program that it is measured against, on the same work, in turns, in one run."""
