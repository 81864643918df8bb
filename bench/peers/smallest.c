// SPDX-License-Identifier: LGPL-2.1-or-later
/* The smallest server in C: libmosquitto on sd-event, json-c. bench/server compares with it. */
#include <json-c/json.h>
#include <mosquitto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>

static void on_message(struct mosquitto *mosq, void *userdata,
                       const struct mosquitto_message *message)
{
    struct json_tokener *tokener = userdata;
    json_tokener_reset(tokener);
    struct json_object *light,
        *object = json_tokener_parse_ex(tokener, message->payload, message->payloadlen);
    if (!object)
        return;
    if (json_object_object_get_ex(object, "light", &light)) {
        char topic[80];
        size_t length = strcspn(message->topic, "/");
        const char *command =
            json_object_get_double(light) < 300 ? "{\"led_on\": true}" : "{\"led_on\": false}";
        snprintf(topic, sizeof(topic), "%.*s/commands", (int)length, message->topic);
        mosquitto_publish(mosq, NULL, topic, (int)strlen(command), command, 0, false);
    }
    json_object_put(object);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    struct mosquitto *mosq = userdata;
    (void)fd;
    int r = MOSQ_ERR_SUCCESS;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        r = mosquitto_loop_read(mosq, 1);
    if (r == MOSQ_ERR_SUCCESS && mosquitto_want_write(mosq))
        r = mosquitto_loop_write(mosq, 1);
    if (r != MOSQ_ERR_SUCCESS)
        exit(0);
    sd_event_source_set_io_events(source, EPOLLIN | (mosquitto_want_write(mosq) ? EPOLLOUT : 0));
    return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
    (void)usec;
    mosquitto_loop_misc(userdata);
    sd_event_source_set_time_relative(source, 1000000);
    return 0;
}

int main(int argc, char **argv)
{
    sd_event *event;
    sd_event_source *timer;
    mosquitto_lib_init();
    struct mosquitto *mosq = mosquitto_new("smallest", true, json_tokener_new());
    mosquitto_int_option(mosq, MOSQ_OPT_TCP_NODELAY, 1);
    mosquitto_message_callback_set(mosq, on_message);
    if (argc != 2 || mosquitto_connect(mosq, "127.0.0.1", atoi(argv[1]), 60) != MOSQ_ERR_SUCCESS)
        return 1;
    mosquitto_subscribe(mosq, NULL, "+/telemetry", 0);
    sd_event_default(&event);
    sd_event_add_io(event, NULL, mosquitto_socket(mosq), EPOLLIN | EPOLLOUT, on_io, mosq);
    sd_event_add_time_relative(event, &timer, CLOCK_MONOTONIC, 1000000, 0, on_timer, mosq);
    sd_event_source_set_enabled(timer, SD_EVENT_ON);
    return sd_event_loop(event) < 0;
}
