// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Log lines: to the journal with fields when standard error is connected to it (JOURNAL_STREAM),
 * else readable lines on standard error. Neither is waited for: what a journal that hangs, or a
 * pipe that nobody reads, does not take is counted, and told once it takes lines again.
 *
 *     log_info(LOG_FIELDS({ "DEVICE", id }, { "TOPIC", topic }), "telemetry %s", json);
 *     log_notice(LOG_FIELDS(LOG_ID(LOG_ID_CONNECTED)), "connected to %s", where);
 *     log_debug(NULL, "...");
 *
 * Levels as people read them: `err` something the user asked for does not work and needs attention,
 * `warning` may need attention, `notice` a change of state worth a line at 3 a.m. (connected,
 * sensor back), `info` the story (telemetry received, command sent), `debug` for developers. Only
 * the layer that decides logs above debug. Control characters in a message are escaped. Threads
 * other than the main loop's may log; each line is written whole.
 */
#pragma once

#include <stdbool.h>
#include <syslog.h>

struct log_field {
    const char *name;  // a journal field: A-Z, 0-9 and _, not beginning with _
    const char *value; // UTF-8; NULL leaves the field out
};

#define LOG_FIELDS(...) ((const struct log_field[]){ __VA_ARGS__, { 0 } })
#define LOG_ID(id)                                                                                 \
    {                                                                                              \
        "MESSAGE_ID", id                                                                           \
    }

/* What `journalctl -x` explains; the texts are in the message catalog. */
#define LOG_ID_CONNECTED        "c6c619f380534c36a0a528efa10041f3"
#define LOG_ID_DISCONNECTED     "95bf00e5e4a349a9bdd4e00a7966e7ce"
#define LOG_ID_CONNECT_FAILED   "07e5669860574e8785501a2bd999a5e3"
#define LOG_ID_CONFIG_INVALID   "08debeca86154396b3188d14870c757b"
#define LOG_ID_CONFIG_RELOADED  "7f62303ed6c6422383512a6484d132c5"
#define LOG_ID_SENSOR_FAILED    "0ed48200c3f84fdca0e358df4cfa948e"
#define LOG_ID_SENSOR_BACK      "829c15e845664b718d522d605c358e54"
#define LOG_ID_ACTUATOR_FAILED  "a125c21336b34ab397f4894e40cd81ba"
#define LOG_ID_ACTUATOR_BACK    "5e1133af2140493ba5f701212d95c919"
#define LOG_ID_ACTUATOR_SAFE    "7a1d2f0c5e934b6f8d20c4b1e6a97f35"
#define LOG_ID_IDENTIFY         "c1d0b7e44f2a4d0f9a5be5f3a7d26e18"
#define LOG_ID_COMMAND_REJECTED "4b85eebbb3a143de8d39b601a4ac49d6"
#define LOG_ID_COMMAND_LOST     "2f0ab3d94c1e4c58a6d1f3b7e95c8d12"
#define LOG_ID_COMMANDS_FULL    "8e5d1c7a36f24b90b4a9e0d2c61f7354"
#define LOG_ID_RULE_UNKNOWN     "6e6d91baf8bc4755ac12c9f4dc41700d"
#define LOG_ID_MESSAGE_REFUSED  "fb16e8bfaf4c45fbb611696235b84596"
#define LOG_ID_MESSAGES_DROPPED "4d0f6c1e7b8a4f3c9a55d2e81c7be90a"
#define LOG_ID_QUEUE_FULL       "c515895991d048d59be8f049e550417b"
#define LOG_ID_DRAINED          "50d44d1bb5d14f31bb5a748396ad6375"
#define LOG_ID_STORE_FAILED     "8dcc1955f0b64c35a3df486c0f5bbb42"
#define LOG_ID_STORE_BACK       "8799519dde72415d8a831f4c771a4ece"
#define LOG_ID_STORE_DAMAGED    "49ecdd9d2d3144768688f24f178b8d65"
#define LOG_ID_STORE_LOST       "b903d873e7224629892a831132836c3b"
#define LOG_ID_READY            "01c72920e46648e4956969bd1eaf1afd"

/* What is below level (LOG_ERR..LOG_DEBUG) is dropped. The default is LOG_INFO. */
void log_set_level(int level);
bool log_enabled(int level);

/* Writes one line. fields end with a zero name, and may be NULL. Never fails visibly. */
void log_write(int level, const struct log_field *fields, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_at(level, fields, ...)                                                                 \
    do {                                                                                           \
        if (log_enabled(level))                                                                    \
            log_write(level, fields, __VA_ARGS__);                                                 \
    } while (0)
#define log_err(fields, ...)     log_at(LOG_ERR, fields, __VA_ARGS__)
#define log_warning(fields, ...) log_at(LOG_WARNING, fields, __VA_ARGS__)
#define log_notice(fields, ...)  log_at(LOG_NOTICE, fields, __VA_ARGS__)
#define log_info(fields, ...)    log_at(LOG_INFO, fields, __VA_ARGS__)
#define log_debug(fields, ...)   log_at(LOG_DEBUG, fields, __VA_ARGS__)
