// SPDX-License-Identifier: Apache-2.0
#include "basics.h"

long lab_add(void *word) { return __atomic_add_fetch((int32_t *)word, 1, __ATOMIC_SEQ_CST); }
