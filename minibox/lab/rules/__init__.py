# SPDX-License-Identifier: Apache-2.0
"""What the kernel refuses, and what clone and clone3 do not have in common."""
