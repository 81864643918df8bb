// SPDX-License-Identifier: LGPL-2.1-or-later
// nightlightctl status: what a device or a server says of itself, as a table for people.
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#include "core/json.h"
#include "ctl/ctl.h"
#include "ctl/exchange.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/strings.h"

// A retained message comes at once.
static const uint64_t wait_usec = 3 * USEC_PER_SEC;

static bool on_status(void *userdata, const struct mqtt_message *message)
{
    struct json_object **status = userdata;
    return json_parse_object(message->payload, message->payload_size, status, NULL) == 0;
}

/* A value as one printable word or line. */
static const char *text_of(struct json_object *value, char *out, size_t size)
{
    const char *text = json_object_get_string(value); // also of numbers
    return text ? strings_printable(text, strlen(text), out, size) : "-";
}

static bool is_table(struct json_object *value)
{
    if (!json_object_is_type(value, json_type_object) || json_object_object_length(value) == 0)
        return false;
    json_object_object_foreach(value, name, row)
    {
        (void)name;
        if (!json_object_is_type(row, json_type_object))
            return false;
    }
    return true;
}

/* "NAME: KEY VALUE, KEY VALUE, ..." */
static void print_row(const char *name, struct json_object *object)
{
    char text[128], key_text[128];
    const char *separator = "";
    printf("%10s: ", name);
    json_object_object_foreach(object, key, value)
    {
        printf("%s%s %s", separator,
               strings_printable(key, strlen(key), key_text, sizeof(key_text)),
               text_of(value, text, sizeof(text)));
        separator = ", ";
    }
    putchar('\n');
}

/* Objects within an object, each a line; the keys of the first are the heads of the columns. */
static void print_table(const char *name, struct json_object *table)
{
    char text[128];
    struct json_object *heads = NULL, *member;
    printf("\n%-16.16s", name);
    json_object_object_foreach(table, first, first_row)
    {
        (void)first;
        heads = heads ? heads : first_row;
    }
    json_object_object_foreach(heads, head, ignored)
    {
        (void)ignored;
        printf(" %10s", strings_printable(head, strlen(head), text, sizeof(text)));
    }
    putchar('\n');
    json_object_object_foreach(table, row_name, row)
    {
        printf("%-16s", strings_printable(row_name, strlen(row_name), text, sizeof(text)));
        json_object_object_foreach(heads, key, unused)
        {
            (void)unused;
            bool is_there = json_object_object_get_ex(row, key, &member);
            printf(" %10s", is_there ? text_of(member, text, sizeof(text)) : "-");
        }
        putchar('\n');
    }
}

static void print_status(const char *device, struct json_object *status)
{
    char text[512], name[128];
    printf("%10s: %s\n", "device", device);
    json_object_object_foreach(status, key, value)
    {
        strings_printable(key, strlen(key), name, sizeof(name));
        if (is_table(value))
            continue;
        if (json_object_is_type(value, json_type_object))
            print_row(name, value);
        else
            printf("%10s: %s\n", name, text_of(value, text, sizeof(text)));
    }
    json_object_object_foreach(status, table_key, table)
    {
        if (is_table(table))
            print_table(strings_printable(table_key, strlen(table_key), name, sizeof(name)), table);
    }
}

static int show(const struct config *config, const char *device)
{
    _cleanup_(json_object_putp) struct json_object *status = NULL;
    _cleanup_(freep) char *filter = NULL;
    if (exchange_filter(config->topics->status, device, &filter) < 0)
        return CTL_FAILED;
    const struct exchange exchange = {
        .config = config,
        .filter = filter,
        .wait_usec = wait_usec,
        .take = on_status,
        .userdata = &status,
    };
    int r = exchange_run(&exchange);
    if (r == 0)
        print_status(device, status);
    else if (r == -ETIMEDOUT)
        fprintf(stderr, "nightlightctl: there is no status of %s\n", device);
    return r == 0 ? CTL_OK : r == -ETIMEDOUT ? CTL_NO_ANSWER : CTL_FAILED;
}

static void print_usage(FILE *out)
{
    fputs(
        "Usage: nightlightctl status [DEVICE] [--config FILE]\n"
        "Shows the status message of DEVICE, by default of the daemon here: its connection, and\n"
        "what became of every sample of each stream.\n"
        "\n"
        "Exit status: 0, 1 if the broker cannot be reached, 6 if there is no such message, 78 if\n"
        "the configuration has mistakes.\n",
        out);
}

static int run_status(int argc, char **argv)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    const char *file = NULL;
    for (int option; (option = getopt_long(argc, argv, "c:h", options, NULL)) >= 0;) {
        if (option == 'c') {
            file = optarg;
            continue;
        }
        print_usage(option == 'h' ? stdout : stderr);
        return option == 'h' ? CTL_OK : CTL_FAILED;
    }
    if (argc - optind > 1) {
        print_usage(stderr);
        return CTL_FAILED;
    }
    log_set_level(LOG_WARNING); // what it tells is its own
    _cleanup_(config_unrefp) struct config *config = NULL;
    if (ctl_load(file, NULL, &config) < 0)
        return CTL_BAD_CONFIG;
    return show(config, optind < argc ? argv[optind] : config->daemon->id);
}

const struct ctl_command ctl_command_status = {
    .name = "status",
    .help = "  status [DEVICE]     the device's connection, and what became of every sample\n",
    .run = run_status,
};
