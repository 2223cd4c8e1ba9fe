# SPDX-License-Identifier: Apache-2.0
"""The outside world behind small protocols; a fake stands beside each real driver."""
