// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Fills a queue as an outage would, with messages of the stream `telemetry` of 60 bytes.
 *
 *     outbox-fill DIRECTORY COUNT
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-id128.h>

#include "store/store.h"
#include "util/clock.h"

enum { A_JOB = 1000 };

static void put_a_job(struct store *store, struct store_message *messages, uint64_t first_seq,
                      size_t n)
{
    static char payloads[A_JOB][128];
    const struct store_message *puts[A_JOB];
    struct why why = { "" };
    for (size_t i = 0; i < n; i++) {
        snprintf(payloads[i], sizeof(payloads[i]),
                 "{\"light\": %4u, \"note\": \"the queued message no. %09" PRIu64 "\"}",
                 (unsigned)(first_seq % 1024), first_seq + i);
        messages[i].seq = first_seq + i;
        messages[i].payload = payloads[i];
        messages[i].payload_size = strlen(payloads[i]);
        puts[i] = &messages[i];
    }
    struct store_stream stream = { .name = "telemetry", .used_seq = first_seq + n - 1 };
    struct store_job job = {
        .begin_wall_usec = clock_wall_usec() - clock_mono_usec(),
        .streams = &stream,
        .n_streams = 1,
        .puts = puts,
        .n_puts = n,
    };
    if (store_run(store, &job, &why) < 0) {
        fprintf(stderr, "outbox-fill: %s\n", why.text);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    static struct store_message messages[A_JOB];
    struct store *store;
    sd_id128_t boot;
    if (argc != 3 || sd_id128_get_boot(&boot) < 0) {
        fprintf(stderr, "Usage: outbox-fill DIRECTORY COUNT\n");
        return 2;
    }
    struct store_options options = { .directory = argv[1], .max_size = UINT64_C(1) << 30 };
    uint64_t n = strtoull(argv[2], NULL, 10);
    memcpy(options.boot, boot.bytes, STORE_BOOT_SIZE);
    if (store_new(&options, &store) < 0)
        return 1;
    for (size_t i = 0; i < A_JOB; i++) {
        messages[i] = (struct store_message){ .n_samples = 1 };
        messages[i].moment.mono_usec = clock_mono_usec() - 60 * USEC_PER_SEC;
        memcpy(messages[i].moment.boot, boot.bytes, STORE_BOOT_SIZE);
    }
    for (uint64_t seq = 1; seq <= n; seq += A_JOB)
        put_a_job(store, messages, seq, n - seq + 1 < A_JOB ? n - seq + 1 : A_JOB);
    store_free(store);
    return 0;
}
