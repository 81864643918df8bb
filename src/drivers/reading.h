// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * What sensor drivers get as bytes, made a number: a text, a member of a JSON object, the answer of
 * a 1-Wire thermometer. Pure; the bytes need no NUL at their end and may hold anything.
 *
 *     r = reading_from_json(bytes, length, "rooms.0.temperature", &value, why);
 *
 * Each returns 0 or -errno with why, and leaves *ret_value untouched on failure.
 */
#pragma once

#include <stddef.h>

#include "util/why.h"

/*
 * A decimal number (parse_number()) and nothing but white space around it. -ENODATA if there is
 * nothing else, -EBADMSG for anything else (`true`, `21,5`, `3 V`), -ERANGE if no double holds it.
 */
int reading_from_text(const char *bytes, size_t length, double *ret_value, struct why *why);

/*
 * The number at path within a JSON object (json_parse_object()). Path: a member's name, or names
 * and array indices joined by dots; a member whose own name has the dots goes first. -ENODATA if it
 * is not there, -EBADMSG if it is no number or the text is no JSON object, -EMSGSIZE, -ENOMEM.
 */
int reading_from_json(const char *bytes, size_t length, const char *path, double *ret_value,
                      struct why *why);

/*
 * The temperature in degrees Celsius out of a w1_slave file (Linux, w1_therm): two lines, the
 * scratchpad with "crc=NN YES", and again with "t=MILLIDEGREES". -EIO if the check sum is wrong or
 * the bus is shorted (nine zeros have a right check sum), -ENODATA for 85 degrees, which is what a
 * DS18B20 says after power-on without having measured, -EBADMSG if the text is something else.
 */
int reading_from_w1_slave(const char *bytes, size_t length, double *ret_value, struct why *why);

/* The last step of the above, for drivers that have the number: 85000 is refused. */
int reading_from_w1_milli(double milli_celsius, double *ret_value, struct why *why);
