// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A connector: one connection to a broker, in a process of its own. It is told how to connect over
 * a pair of sockets, connects once, hands messages to and fro, and ends with the connection, after
 * saying why. Whatever goes wrong in libmosquitto or OpenSSL goes wrong here, and is to the daemon
 * a lost connection (io/link).
 */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "connector/client.h"
#include "connector/dial.h"
#include "connector/pair.h"
#include "connector/process.h"
#include "connector/session.h"
#include "connector/wire.h"
#include "util/strings.h"

enum { LAST_WORDS_MSEC = 1000 };

/* TCP, then MQTT. As session_run(). */
static int connect_and_serve(struct client *client, enum frame_failure *ret_failure)
{
    const struct frame_options *options = client->options;
    int fd;
    *ret_failure = FRAME_FAILURE_OTHER;
    int host = dial(options, &fd, client->error, sizeof(client->error));
    if (host < 0)
        return host;
    dial_format(options, options->hosts[host], client->where, sizeof(client->where));
    pair_put(&(const struct frame_record){
        .kind = FRAME_REACHED, .host = (uint32_t)host, .text = client->where });
    pair_flush(); // what comes next may block
    wire_hand_over(fd);
    int r = client_connect(client, options->hosts[host]);
    return r < 0 ? r : session_run(client, ret_failure);
}

/* OpenSSL's words and a file's name may be no UTF-8. */
static void tell_failure(const struct client *client, enum frame_failure failure)
{
    char text[2 * sizeof(client->error)];
    strings_printable(client->error, strlen(client->error), text, sizeof(text));
    pair_put(&(const struct frame_record){ .kind = FRAME_FAILED, .code = failure, .text = text });
}

int main(void)
{
    struct frame_options options;
    struct client client;
    enum frame_failure failure = FRAME_FAILURE_OTHER;
    process_set_up();
    mallopt(M_ARENA_MAX, 1);
    pair_wait_for_options(&options);
    process_check_parent(&options);
    mosquitto_lib_init();
    process_confine(&options);
    int r = client_new(&client, &options);
    if (r == 0)
        r = connect_and_serve(&client, &failure);
    if (r < 0)
        tell_failure(&client, failure);
    pair_drain(LAST_WORDS_MSEC);
    if (dial_has_threads())
        _exit(EXIT_SUCCESS);
    client_done(&client);
    mosquitto_lib_cleanup();
    return EXIT_SUCCESS;
}
