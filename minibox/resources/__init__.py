# SPDX-License-Identifier: Apache-2.0
"""What the parent's side makes for a container, a module each."""
