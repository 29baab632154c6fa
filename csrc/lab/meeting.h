// SPDX-License-Identifier: Apache-2.0
// What a new child and its parent are to each other, however it was made.
#ifndef MINIBOX_LAB_MEETING_H
#define MINIBOX_LAB_MEETING_H

#include <stdint.h>

// cffi: begin

// In memory that both have. parent: its pid. returned: the parent sets it when it is back from the
// call. shared: a bit each for the VM, FILES, FS and SIGHAND that are one and the same (kcmp(2)).
// is_thread: both are one process. over: the child is done.
struct lab_meeting {
    int32_t parent, returned, shared, is_thread, over;
};

// What the child does: fill it in, wait 200 ms for the parent to return, and be over. 0.
long lab_meet(void *meeting);

// Have the C library's vfork make a child that does this; its pid, or -1.
long lab_vfork(void *meeting);

// cffi: end

#endif
