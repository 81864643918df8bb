// SPDX-License-Identifier: LGPL-2.1-or-later
// Any bytes as a line of a recording; and as what series_save() wrote.
#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/series.h"
#include "server/recording.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct recording recording;
    struct why why = { "" };
    int r = recording_parse((const char *)data, size, &recording, &why);
    assert(r == 0 || r == -EBADMSG || r == -ENOMEM);
    if (r == 0) {
        assert(recording.topic && json_object_is_type(recording.payload, json_type_object));
        recording_done(&recording);
    }
    struct series *series;
    uint64_t span_usec = 60000000;
    if (series_load(span_usec, data, size, &series) == 0) {
        double value = series_value(series, AGGREGATE_MEDIAN, UINT64_MAX / 2);
        assert(isnan(value) || isfinite(value));
        series_free(series);
    }
    return 0;
}
