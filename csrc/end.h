// SPDX-License-Identifier: Apache-2.0
// What a monitor leaves of its container.
#ifndef MINIBOX_END_H
#define MINIBOX_END_H

#include "minibox.h"

struct end {
    int code; // 128+n when signal n ended it
    int signal; // or 0
    int timed_out; // killed at the end of its lifetime
    int oom_killed; // killed for want of memory
    uint64_t time; // ns since the epoch
};

// Has the kernel killed one of the container's for want of memory?
int end_had_oom(const struct mb_monitor *m);

// The addresses in its networks are free, its cgroup is gone, before anybody can know that it has
// ended.
void end_give_back(const struct mb_monitor *m);

// The event first, then the record, which others wait for.
void end_record(const struct mb_monitor *m, const struct end *end);

#endif
