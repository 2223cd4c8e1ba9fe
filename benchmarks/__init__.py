# SPDX-License-Identifier: Apache-2.0
"""Measurements of the main job, each with the figure it is meant to reach."""
