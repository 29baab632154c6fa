# SPDX-License-Identifier: Apache-2.0
"""Topologies: networks, routers and containers that are brought up and taken down as one
(docs/network.md)."""
