# SPDX-License-Identifier: Apache-2.0
"""One experiment for every flag of clone that shares something or changes how a child begins."""
