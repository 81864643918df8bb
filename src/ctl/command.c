// SPDX-License-Identifier: LGPL-2.1-or-later
// nightlightctl command: sends a device a command and tells what became of it.
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-id128.h>

#include "core/answer.h"
#include "ctl/ctl.h"
#include "ctl/exchange.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/parse.h"
#include "util/strings.h"

static const uint64_t default_wait_usec = 10 * USEC_PER_SEC;

struct command_run {
    const char *id;
    enum reply_status status;
};

/* A peer's text may not write on the terminal. */
static void print_reply(const struct mqtt_message *message)
{
    size_t size = message->payload_size * 4 + 8;
    _cleanup_(freep) char *text = malloc(size);
    if (text)
        puts(strings_printable(message->payload, message->payload_size, text, size));
}

static bool on_reply(void *userdata, const struct mqtt_message *message)
{
    struct command_run *run = userdata;
    struct answer answer;
    if (answer_parse(message->payload, message->payload_size, &answer, NULL) < 0 ||
        strcmp(answer.id, run->id) != 0)
        return false;
    run->status = answer.status;
    print_reply(message);
    return true;
}

/* The command with an $id: its own, or a new one. *ret_payload is a new string. */
static int add_id(const char *json, struct envelope *envelope, char **ret_payload)
{
    struct why why = { "" };
    sd_id128_t random;
    int r = envelope_parse(json, strlen(json), envelope, &why);
    if (r < 0) {
        fprintf(stderr, "nightlightctl: this is no command: %s\n", why.text);
        return r;
    }
    if (envelope->id[0]) {
        *ret_payload = strdup(json);
        return *ret_payload ? 0 : -ENOMEM;
    }
    r = sd_id128_randomize(&random);
    if (r < 0)
        return r;
    snprintf(envelope->id, sizeof(envelope->id), "ctl-%016" PRIx64, random.qwords[0]);
    // It has been parsed: there is a brace, and a member behind it.
    if (asprintf(ret_payload, "{\"$id\": \"%s\", %s", envelope->id, strchr(json, '{') + 1) < 0)
        return -ENOMEM;
    return 0;
}

static int exit_code(int result, enum reply_status status)
{
    static const int codes[] = {
        [REPLY_DONE] = CTL_OK,
        [REPLY_REJECTED] = CTL_REJECTED,
        [REPLY_FAILED] = CTL_NOT_DONE,
        [REPLY_EXPIRED] = CTL_EXPIRED,
        [REPLY_SUPERSEDED] = CTL_SUPERSEDED,
    };
    if (result == -ETIMEDOUT)
        return CTL_NO_ANSWER;
    return result < 0 ? CTL_FAILED : codes[status];
}

/* wait_usec 0: the broker has it, and that is all. */
static int send(const struct config *config, const char *device, const char *group,
                const char *json, uint64_t wait_usec)
{
    _cleanup_(envelope_done) struct envelope envelope = { 0 };
    _cleanup_(freep) char *topic = NULL, *filter = NULL, *payload = NULL;
    struct command_run run = { .id = envelope.id };
    int r = exchange_topic(config->topics->commands, device, group, &topic);
    if (r >= 0)
        r = exchange_filter(config->topics->replies, device, &filter);
    if (r >= 0)
        r = add_id(json, &envelope, &payload);
    if (r < 0)
        return CTL_FAILED;
    const struct exchange exchange = {
        .config = config,
        .filter = wait_usec > 0 ? filter : NULL,
        .topic = topic,
        .payload = payload,
        .wait_usec = wait_usec,
        .take = on_reply,
        .userdata = &run,
    };
    r = exchange_run(&exchange);
    if (r == -ETIMEDOUT)
        fprintf(stderr, "nightlightctl: %s has not replied to %s\n", device, envelope.id);
    else if (r == 0 && wait_usec == 0)
        printf("{\"$id\": \"%s\"}\n", envelope.id);
    return exit_code(r, run.status);
}

static void print_usage(FILE *out)
{
    fputs(
        "Usage: nightlightctl command DEVICE JSON [--wait[=TIME]] [--group GROUP]\n"
        "                     [--config FILE]\n"
        "Sends DEVICE the command JSON, such as '{\"led_on\": true}' or '{\"$action\": "
        "\"sample\"}'.\n"
        "\n"
        "  -w, --wait[=TIME]   wait for the reply, 10s if no TIME is given, and print it\n"
        "  -g, --group GROUP   the device's group, where its topic has one\n"
        "  -c, --config FILE   the daemon's configuration\n"
        "\n"
        "Exit status: 0 done (without --wait: sent), 1 not sent, 2 rejected, 3 failed, 4 expired,\n"
        "5 superseded, 6 no reply in time, 78 the configuration has mistakes.\n",
        out);
}

static int run_command(int argc, char **argv)
{
    static const struct option options[] = {
        { "wait", optional_argument, NULL, 'w' },
        { "group", required_argument, NULL, 'g' },
        { "config", required_argument, NULL, 'c' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    const char *file = NULL, *group = NULL;
    uint64_t wait_usec = 0;
    for (int option; (option = getopt_long(argc, argv, "w::g:c:h", options, NULL)) >= 0;) {
        if (option == 'w' && !optarg)
            wait_usec = default_wait_usec;
        else if (option == 'w' && (parse_duration(optarg, &wait_usec) < 0 || wait_usec == 0)) {
            fprintf(stderr, "nightlightctl: '%s' is no time; expected one such as 10s\n", optarg);
            return CTL_FAILED;
        } else if (option == 'g')
            group = optarg;
        else if (option == 'c')
            file = optarg;
        else if (option != 'w') {
            print_usage(option == 'h' ? stdout : stderr);
            return option == 'h' ? CTL_OK : CTL_FAILED;
        }
    }
    if (argc - optind != 2) {
        print_usage(stderr);
        return CTL_FAILED;
    }
    log_set_level(LOG_WARNING); // what it tells is its own
    _cleanup_(config_unrefp) struct config *config = NULL;
    if (ctl_load(file, NULL, &config) < 0)
        return CTL_BAD_CONFIG;
    return send(config, argv[optind], group ? group : config->daemon->group, argv[optind + 1],
                wait_usec);
}

const struct ctl_command ctl_command_command = {
    .name = "command",
    .help = "  command DEVICE JSON [--wait[=TIME]]\n"
            "                      send a device a command; with --wait print its reply, and\n"
            "                      exit as it says\n",
    .run = run_command,
};
