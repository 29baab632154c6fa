# SPDX-License-Identifier: Apache-2.0
"""Networks: bridges of this host's that containers are plugged into (docs/network.md)."""
