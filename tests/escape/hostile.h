// SPDX-License-Identifier: Apache-2.0
// The words of the program that are no probes: see hostile.c.
#ifndef HOSTILE_H
#define HOSTILE_H
int overwrite(const char *fd);
int lurk(const char *end);
int swap(const char *a, const char *b);
int furnish(const char *name, const char *key);
#endif
