// SPDX-License-Identifier: Apache-2.0
// Numbers and times as text, for static binaries without libc.
#ifndef MINIBOX_TEXT_H
#define MINIBOX_TEXT_H

#include <stdint.h>

// Append `text` at `at`; where it ends now. The caller has the room.
static inline char *text_put(char *at, const char *text) {
    while (*text) {
        *at++ = *text++;
    }
    return at;
}

// A decimal number of at least `width` digits.
static inline char *text_number(char *at, uint64_t number, int width) {
    char digits[20];
    int n = 0;
    while (number || n < width) {
        digits[n++] = (char)('0' + number % 10);
        number /= 10;
    }
    while (n) {
        *at++ = digits[--n];
    }
    return at;
}

// Nanoseconds since the epoch as RFC 3339 in UTC: 30 characters. The calendar's 400 years have
// 146097 days; a year here begins in March, so that the leap day is its last.
static inline char *text_time(char *at, uint64_t ns) {
    uint64_t seconds = ns / 1000000000u;
    uint64_t days = seconds / 86400 + 719468; // since 0000-03-01
    uint64_t era = days / 146097;
    uint64_t day = days % 146097;
    uint64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    day -= 365 * year + year / 4 - year / 100;
    uint64_t month = (5 * day + 2) / 153; // from March
    uint64_t day_of_month = day - (153 * month + 2) / 5 + 1;
    uint64_t is_next_year = month >= 10;
    at = text_number(at, era * 400 + year + is_next_year, 4);
    *at++ = '-';
    at = text_number(at, is_next_year ? month - 9 : month + 3, 2);
    *at++ = '-';
    at = text_number(at, day_of_month, 2);
    *at++ = 'T';
    at = text_number(at, seconds / 3600 % 24, 2);
    *at++ = ':';
    at = text_number(at, seconds / 60 % 60, 2);
    *at++ = ':';
    at = text_number(at, seconds % 60, 2);
    *at++ = '.';
    at = text_number(at, ns % 1000000000u, 9);
    *at++ = 'Z';
    return at;
}

#endif
