# SPDX-License-Identifier: Apache-2.0
"""The classical systems that are built of clone, each as a whole."""
