// SPDX-License-Identifier: LGPL-2.1-or-later
// The CSV file of a simulated sensor's replay; what was accepted is played too.
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "drivers/waveform.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t times_usec[] = { 0, 1, 999999, 3600000000, UINT64_MAX };
    struct series *series = NULL;
    struct why why;
    if (series_parse((const char *)data, size, &series, &why) < 0)
        return 0;
    for (size_t i = 0; i < ELEMENTS(times_usec); i++)
        if (!isfinite(series_at(series, times_usec[i], times_usec[i])))
            abort();
    free(series);
    return 0;
}
