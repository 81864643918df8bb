// SPDX-License-Identifier: LGPL-2.1-or-later
// Strict parsers of small values; see parse.h. Pure, no I/O.
#include "util/parse.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/clock.h"
#include "util/strings.h"

int parse_bool(const char *text, bool *ret_value)
{
    static const char *const words[] = { "no", "yes", "false", "true", "off", "on", "0", "1" };
    for (size_t i = 0; i < ELEMENTS(words); i++) {
        if (strcasecmp(text, words[i]) == 0) {
            *ret_value = i % 2;
            return 0;
        }
    }
    return -EINVAL;
}

int parse_int(const char *text, int64_t *ret_value)
{
    const char *digits = text + (*text == '-' || *text == '+');
    if (*digits == '\0' || digits[strspn(digits, "0123456789")] != '\0')
        return -EINVAL;
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    if (errno == ERANGE)
        return -ERANGE;
    *ret_value = value;
    return 0;
}

/* The length of the decimal number that text begins with; 0 if there is none. */
static size_t number_length(const char *text)
{
    static const char digits[] = "0123456789";
    const char *at = text + (*text == '-' || *text == '+');
    size_t n_digits = strspn(at, digits);
    at += n_digits;
    if (*at == '.') {
        size_t n_fraction = strspn(at + 1, digits);
        n_digits += n_fraction;
        at += 1 + n_fraction;
    }
    if (n_digits == 0)
        return 0;
    if (*at == 'e' || *at == 'E') {
        const char *exponent = at + 1 + (at[1] == '-' || at[1] == '+');
        size_t n_exponent = strspn(exponent, digits);
        if (n_exponent > 0)
            at = exponent + n_exponent;
    }
    return (size_t)(at - text);
}

int parse_number(const char *text, double *ret_value)
{
    size_t length = number_length(text);
    if (length == 0 || text[length] != '\0')
        return -EINVAL;
    double value = strtod(text, NULL); // the program never leaves the "C" numeric locale
    if (!isfinite(value))
        return -ERANGE;
    *ret_value = value;
    return 0;
}

int parse_duration(const char *text, uint64_t *ret_usec)
{
    static const struct {
        const char *name;
        uint64_t usec;
    } units[] = {
        { "us", 1 },
        { "usec", 1 },
        { "ms", USEC_PER_MSEC },
        { "msec", USEC_PER_MSEC },
        { "s", USEC_PER_SEC },
        { "sec", USEC_PER_SEC },
        { "second", USEC_PER_SEC },
        { "seconds", USEC_PER_SEC },
        { "m", 60 * USEC_PER_SEC },
        { "min", 60 * USEC_PER_SEC },
        { "minute", 60 * USEC_PER_SEC },
        { "minutes", 60 * USEC_PER_SEC },
        { "h", 3600 * USEC_PER_SEC },
        { "hr", 3600 * USEC_PER_SEC },
        { "hour", 3600 * USEC_PER_SEC },
        { "hours", 3600 * USEC_PER_SEC },
        { "d", 86400 * USEC_PER_SEC },
        { "day", 86400 * USEC_PER_SEC },
        { "days", 86400 * USEC_PER_SEC },
        { "w", 604800 * USEC_PER_SEC },
        { "week", 604800 * USEC_PER_SEC },
        { "weeks", 604800 * USEC_PER_SEC },
    };
    static const double limit_usec = 3.0e17; // some 9,500 years: sums stay exact and in range
    if (strcmp(text, "infinity") == 0) {
        *ret_usec = USEC_INFINITY;
        return 0;
    }
    double sum_usec = 0;
    bool any = false;
    for (text += strspn(text, " \t"); *text; text += strspn(text, " \t")) {
        size_t digits = strspn(text, "0123456789."); // no sign, no exponent: "5e" is no unit
        if (digits == 0 || number_length(text) < digits || digits > 30)
            return -EINVAL;
        char number[32];
        memcpy(number, text, digits);
        number[digits] = '\0';
        double value = strtod(number, NULL);
        text += digits;
        text += strspn(text, " \t");
        size_t n_letters = 0;
        while (isalpha((unsigned char)text[n_letters]))
            n_letters++;
        uint64_t unit_usec = n_letters == 0 ? USEC_PER_SEC : 0;
        for (size_t i = 0; n_letters > 0 && i < ELEMENTS(units); i++) {
            if (strncmp(units[i].name, text, n_letters) == 0 && units[i].name[n_letters] == '\0')
                unit_usec = units[i].usec;
        }
        if (unit_usec == 0)
            return -EINVAL;
        text += n_letters;
        sum_usec += value * (double)unit_usec;
        if (sum_usec > limit_usec)
            return -ERANGE;
        any = true;
    }
    if (!any)
        return -EINVAL;
    *ret_usec = (uint64_t)llround(sum_usec);
    return 0;
}

/* Takes n digits and then that character off *text; with after '\0' nothing behind them. */
static bool take_digits(const char **text, size_t n, char after, int *ret_value)
{
    int value = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char digit = (unsigned char)(*text)[i];
        if (!isdigit(digit))
            return false;
        value = value * 10 + (digit - '0');
    }
    if (after && toupper((unsigned char)(*text)[n]) != after)
        return false;
    *text += n + (after ? 1 : 0);
    *ret_value = value;
    return true;
}

static bool is_date(int year, int month, int day)
{
    static const int lengths[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return month >= 1 && month <= 12 && day >= 1 &&
           day <= lengths[month - 1] + (month == 2 && leap ? 1 : 0);
}

/* Days since 1970-01-01; negative before. Years begin with March, so that leap days come last. */
static int64_t days_since_epoch(int year, int month, int day)
{
    int march_year = month > 2 ? year : year - 1;
    int days_before_month = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5;
    return march_year * 365 + march_year / 4 - march_year / 100 + march_year / 400 +
           days_before_month + day - 719469;
}

/* ".789" off *text; 0 microseconds without. */
static bool take_fraction(const char **text, int64_t *ret_usec)
{
    int64_t usec = 0, unit_usec = (int64_t)USEC_PER_SEC / 10;
    if (**text == '.') {
        ++*text;
        if (!isdigit((unsigned char)**text))
            return false;
        for (; isdigit((unsigned char)**text); ++*text, unit_usec /= 10)
            usec += unit_usec * (**text - '0');
    }
    *ret_usec = usec;
    return true;
}

/* "Z" or "+01:00" off *text. */
static bool take_offset(const char **text, int64_t *ret_seconds)
{
    int hours, minutes;
    int sign = **text == '-' ? -1 : 1;
    *ret_seconds = 0;
    if (toupper((unsigned char)**text) == 'Z') {
        ++*text;
        return true;
    }
    if (**text != '+' && **text != '-')
        return false;
    ++*text;
    if (!take_digits(text, 2, ':', &hours) || !take_digits(text, 2, '\0', &minutes) || hours > 23 ||
        minutes > 59)
        return false;
    *ret_seconds = sign * ((int64_t)hours * 3600 + (int64_t)minutes * 60);
    return true;
}

int parse_rfc3339(const char *text, uint64_t *ret_wall_usec)
{
    static const int64_t day_seconds = 86400;
    int year, month, day, hour, minute, second;
    int64_t usec, offset_seconds;
    if (!take_digits(&text, 4, '-', &year) || !take_digits(&text, 2, '-', &month) ||
        !take_digits(&text, 2, 'T', &day) || !take_digits(&text, 2, ':', &hour) ||
        !take_digits(&text, 2, ':', &minute) || !take_digits(&text, 2, '\0', &second) ||
        !take_fraction(&text, &usec) || !take_offset(&text, &offset_seconds) || *text != '\0')
        return -EINVAL;
    if (!is_date(year, month, day) || hour > 23 || minute > 59 || second > 60)
        return -EINVAL;
    int64_t seconds = days_since_epoch(year, month, day) * day_seconds + (int64_t)hour * 3600 +
                      (int64_t)minute * 60 + second - offset_seconds;
    if (second == 60 && seconds % day_seconds != 0) // only at the end of a day in UTC
        return -EINVAL;
    if (seconds < 0)
        return -ERANGE;
    *ret_wall_usec = (uint64_t)seconds * USEC_PER_SEC + (uint64_t)usec;
    return 0;
}

int parse_size(const char *text, uint64_t *ret_bytes)
{
    static const char suffixes[] = "KMGT";
    size_t digits = strspn(text, "0123456789");
    if (digits == 0)
        return -EINVAL;
    unsigned shift = 0;
    if (text[digits] != '\0') {
        const char *suffix = strchr(suffixes, text[digits]);
        if (!suffix || text[digits + 1] != '\0')
            return -EINVAL;
        shift = 10 * (unsigned)(suffix - suffixes + 1);
    }
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    if (errno == ERANGE || value > (UINT64_MAX >> shift))
        return -ERANGE;
    *ret_bytes = (uint64_t)value << shift;
    return 0;
}

static const char blank[] = " \t\n\v\f\r"; // that separates arguments

/* Copies one argument, unquoted, to out (which has room); returns where it ends, NULL if open. */
static const char *parse_argument(const char *text, char *out)
{
    char quote = '\0';
    for (; *text && (quote || !strchr(blank, *text)); text++) {
        if (*text == '\\' && quote != '\'') {
            if (text[1] == '\0')
                return NULL;
            *out++ = *++text;
        } else if (*text == quote) {
            quote = '\0';
        } else if (!quote && (*text == '\'' || *text == '"')) {
            quote = *text;
        } else {
            *out++ = *text;
        }
    }
    *out = '\0';
    return quote ? NULL : text;
}

int parse_argv(const char *text, char ***ret_argv)
{
    _cleanup_(strings_freep) char **argv = calloc(strlen(text) / 2 + 2, sizeof(char *));
    if (!argv)
        return -ENOMEM;
    size_t n = 0;
    while (*(text += strspn(text, blank))) {
        argv[n] = malloc(strlen(text) + 1);
        if (!argv[n])
            return -ENOMEM;
        text = parse_argument(text, argv[n++]);
        if (!text)
            return -EINVAL;
    }
    if (n == 0)
        return -EINVAL;
    *ret_argv = TAKE_PTR(argv);
    return 0;
}
