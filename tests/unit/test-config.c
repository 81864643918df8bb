// SPDX-License-Identifier: LGPL-2.1-or-later
// What a good configuration becomes: defaults, types, overriding, printing, comparing.
#include "test-config.h"

#include <syslog.h>
#include <systemd/sd-id128.h>

static const char *origin(const struct config_section *section, const char *key, unsigned line)
{
    for (size_t i = 0; i < section->n_values; i++) {
        if (strcmp(section->values[i].option->key, key) == 0) {
            assert_int_equal(section->values[i].line, line);
            return section->values[i].file;
        }
    }
    fail();
    return NULL;
}

static void empty_file_gives_the_defaults(void **state)
{
    (void)state;
    struct config *config = load_main("");
    assert_int_equal(config->daemon->role, ROLE_COMBINED);
    assert_string_equal(config->daemon->group, "default");
    assert_int_equal(config_log_level(config->daemon), LOG_INFO);
    const struct broker_config *broker = config->broker;
    assert_string_equal(broker->host[0], "localhost");
    assert_null(broker->host[1]);
    assert_int_equal(broker->port, 1883);
    assert_int_equal(broker->transport, TRANSPORT_TCP);
    assert_int_equal(broker->protocol, PROTOCOL_AUTO);
    assert_int_equal(broker->keepalive_usec, 60 * USEC_PER_SEC);
    assert_int_equal(broker->reconnect_min_usec, USEC_PER_SEC);
    assert_int_equal(broker->reconnect_max_usec, 120 * USEC_PER_SEC);
    assert_int_equal(broker->session_expiry_usec, 0);
    assert_int_equal(broker->max_inflight, 100);
    assert_false(broker->tls);
    assert_null(broker->username);
    assert_string_equal(config->topics->telemetry, "{id}/telemetry");
    assert_string_equal(config->topics->group_commands, "groups/{group}/commands");
    assert_string_equal(config->server->devices[0], "*");
    const struct config_section *stream = config_find(config, "stream", "telemetry");
    assert_non_null(stream);
    assert_null(stream->file);
    assert_null(config_stream(stream)->topic);
    assert_int_equal(config_stream(stream)->qos, 1);
    assert_null(config_nth(config, "stream", 1));
    assert_null(config_nth(config, "sensor", 0));
    assert_int_equal(config_count(config, "stream"), 1);
    assert_int_equal(config_count(config, "sensor"), 0);
    config_unref(config);
}

static void id_defaults_to_host_and_machine(void **state)
{
    (void)state;
    sd_id128_t machine;
    put(MAIN_FILE, "");
    if (sd_id128_get_machine(&machine) < 0) {
        struct config *config = NULL;
        struct config_errors errors = { 0 };
        assert_int_equal(load(NULL, &config, &errors), -EINVAL);
        assert_int_equal(errors.n_lines, 1);
        assert_non_null(strstr(errors.lines[0], MAIN_FILE ": daemon.id: not set, and there is no "
                                                          "machine id to make one from"));
        config_errors_done(&errors);
        return;
    }
    char host[256];
    assert_int_equal(gethostname(host, sizeof(host)), 0);
    struct config *config = load_good(NULL);
    size_t length = strlen(host);
    assert_memory_equal(config->daemon->id, host, length);
    assert_int_equal(config->daemon->id[length], '-');
    assert_int_equal(strlen(config->daemon->id + length + 1), 8);
    config_unref(config);
}

static void specifiers_work_in_id_and_group(void **state)
{
    (void)state;
    char host[256], expected[300];
    assert_int_equal(gethostname(host, sizeof(host)), 0);
    snprintf(expected, sizeof(expected), "at-%s", host);
    put(MAIN_FILE, "[daemon]\nid = at-%H\ngroup = x-%H\n");
    struct config *config = load_good(NULL);
    assert_string_equal(config->daemon->id, expected);
    assert_string_equal(config->daemon->group + 2, host);
    config_unref(config);
}

static void every_type_reaches_its_member(void **state)
{
    (void)state;
    struct config *config =
        load_main("[broker]\nhost = a.example  ::1\ttwo\ntls = yes\nusername = bob; #1\n"
                  "[sensor light]\ndriver = sim\nwave = ramp\nmin = -1.5\nmax = 2e3\n"
                  "period = 1h 30min\nmemory = 2M\ninterval = 250ms\naggregate = median\n"
                  "decimals = 2\nscale = 0.5\nvalid_min = 0\ndeadband = 3\nmax_silence = 1h\n"
                  "[sensor x.y-z@1:2]\ndriver = exec\ncommand = prog 'a b' \"c\"\n"
                  "[actuator led_on]\ndriver = gpio\nchip = gpiochip0\nline = 17\n"
                  "active_low = on\n"
                  "[actuator speed]\ndriver = log\ntype = number\nmax = 5\n");
    assert_int_equal(strings_count(config->broker->host), 3);
    assert_string_equal(config->broker->host[1], "::1");
    assert_int_equal(config->broker->port, 8883);
    assert_string_equal(config->broker->username, "bob; #1");
    const struct config_section *light = config_find(config, "sensor", "light");
    const struct sensor_config *sensor = config_sensor(light);
    assert_ptr_equal(light->driver, &sim_driver);
    assert_int_equal(sensor->interval_usec, 250 * USEC_PER_MSEC);
    assert_int_equal(sensor->sample_interval_usec, USEC_INFINITY);
    assert_int_equal(sensor->sampling.aggregate, SAMPLING_MEDIAN);
    assert_int_equal(sensor->sampling.decimals, 2);
    assert_true(sensor->sampling.scale == 0.5 && sensor->sampling.offset == 0);
    assert_true(sensor->sampling.valid_min == 0 && isnan(sensor->sampling.valid_max));
    assert_true(sensor->sampling.deadband == 3);
    assert_int_equal(sensor->sampling.max_silence_usec, 3600 * USEC_PER_SEC);
    const struct sim_config *sim = light->driver_data;
    assert_int_equal(sim->wave, 2);
    assert_true(sim->min == -1.5 && sim->max == 2000);
    assert_int_equal(sim->period_usec, 5400 * USEC_PER_SEC);
    assert_int_equal(sim->memory, 2 << 20);
    const struct config_section *other = config_nth(config, "sensor", 1);
    assert_string_equal(other->name, "x.y-z@1:2");
    assert_int_equal(config_sensor(other)->sampling.decimals, -1);
    assert_true(isnan(config_sensor(other)->sampling.deadband));
    assert_int_equal(config_sensor(other)->sampling.max_silence_usec, USEC_INFINITY);
    const struct exec_config *exec = other->driver_data;
    assert_int_equal(strings_count(exec->command), 3);
    assert_string_equal(exec->command[1], "a b");
    const struct config_section *led = config_find(config, "actuator", "led_on");
    const struct gpio_config *gpio = led->driver_data;
    assert_int_equal(gpio->line, 17);
    assert_true(gpio->active_low);
    assert_int_equal(config_actuator(led)->limits.type, VALUE_BOOL);
    const struct command_limits *limits =
        &config_actuator(config_find(config, "actuator", "speed"))->limits;
    assert_int_equal(limits->type, VALUE_NUMBER);
    assert_true(limits->min == -INFINITY && limits->max == 5);
    config_unref(config);
}

static void the_keys_of_safety_are_of_the_actuators_type(void **state)
{
    (void)state;
    struct config *config =
        load_main("[actuator led]\ndriver = log\ninitial = on\nsafe = no\n"
                  "[actuator speed]\ndriver = log\ntype = number\nmax = 5\ninitial = 2.5\n"
                  "safe = -1\non_exit = safe\non_disconnect = safe\ndisconnect_after = 10s\n"
                  "[actuator text]\ndriver = log\ntype = string\nsafe = off\n");
    const struct actuator_config *led = config_actuator(config_nth(config, "actuator", 0));
    const struct actuator_config *speed = config_actuator(config_nth(config, "actuator", 1));
    const struct actuator_config *text = config_actuator(config_nth(config, "actuator", 2));
    assert_true(led->initial.type == VALUE_BOOL && led->initial.boolean);
    assert_true(led->safe.type == VALUE_BOOL && !led->safe.boolean);
    assert_int_equal(led->on_exit, ON_KEEP);
    assert_int_equal(led->on_disconnect, ON_KEEP);
    assert_int_equal(led->disconnect_after_usec, 60 * USEC_PER_SEC);
    assert_true(speed->initial.number == 2.5 && speed->safe.number == -1);
    assert_int_equal(speed->on_exit, ON_SAFE);
    assert_int_equal(speed->on_disconnect, ON_SAFE);
    assert_int_equal(speed->disconnect_after_usec, 10 * USEC_PER_SEC);
    assert_int_equal(text->initial.type, VALUE_NONE);
    assert_string_equal(text->safe.string, "off");
    config_unref(config);
}

static void rules_hold_expressions_and_commands(void **state)
{
    (void)state;
    struct config *config = load_main("[rule nightlight]\nwhen = light < 300\nuntil = light > 320\n"
                                      "then = {\"led_on\": true}\nelse = {\"led_on\": false}\n"
                                      "hold = 10s\nsend = always\nscope = device\n"
                                      "devices = lamp-* hall-?\n");
    const struct rule_config *rule = config_rule(config_nth(config, "rule", 0));
    assert_int_equal(expr_n_names(rule->when), 1);
    assert_string_equal(expr_name(rule->until, 0), "light");
    assert_int_equal(rule->then_command->n_items, 1);
    assert_string_equal(rule->else_command->items[0].key, "led_on");
    assert_int_equal(rule->hold_usec, 10 * USEC_PER_SEC);
    assert_int_equal(rule->stale_after_usec, USEC_INFINITY);
    assert_int_equal(rule->send, SEND_ALWAYS);
    assert_int_equal(rule->where, WHERE_SERVER);
    assert_string_equal(rule->devices[1], "hall-?");
    config_unref(config);
}

static void later_files_win_key_by_key(void **state)
{
    (void)state;
    put_main("[sensor light]\ndriver = sim\ninterval = 1s\nscale = 2\n");
    put("conf.d/20-b.conf", "[sensor light]\ninterval = 3s\n[daemon]\ngroup = b\n");
    put("conf.d/10-a.conf", "[sensor light]\ninterval = 2s\noffset = 4\n[daemon]\ngroup = a\n");
    put("conf.d/.hidden.conf", "nonsense");
    put("conf.d/30-c.conf~", "nonsense");
    struct config *config = load_good(NULL);
    assert_int_equal(strings_count(config->files), 3);
    assert_string_equal(config->daemon->group, "b");
    assert_string_equal(config->daemon->id, "here");
    const struct config_section *light = config_nth(config, "sensor", 0);
    assert_null(config_nth(config, "sensor", 1));
    assert_int_equal(config_sensor(light)->interval_usec, 3 * USEC_PER_SEC);
    assert_true(config_sensor(light)->sampling.scale == 2);
    assert_true(config_sensor(light)->sampling.offset == 4);
    assert_string_equal(origin(light, "interval", 2), "conf.d/20-b.conf");
    assert_string_equal(origin(light, "offset", 3), "conf.d/10-a.conf");
    assert_string_equal(origin(light, "scale", 7), MAIN_FILE);
    assert_null(origin(light, "aggregate", 0));
    config_unref(config);
}

static void role_of_the_command_line_wins(void **state)
{
    (void)state;
    put_main("[broker]\n");
    put("conf.d/role.conf", "[daemon]\nrole = server\n");
    struct config *config = load_good("device");
    assert_int_equal(config->daemon->role, ROLE_DEVICE);
    assert_string_equal(origin(config_nth(config, "daemon", 0), "role", 0), "command line");
    config_unref(config);
}

static void order_of_keys_does_not_matter(void **state)
{
    (void)state;
    struct config *config = load_main("[sensor light]\nwave = sine\nmin = 1\ndriver = sim\n");
    const struct sim_config *sim = config_nth(config, "sensor", 0)->driver_data;
    assert_int_equal(sim->wave, 1);
    config_unref(config);
}

static void a_mark_and_dos_line_ends_are_no_harm(void **state)
{
    (void)state;
    put(MAIN_FILE, "\xef\xbb\xbf[daemon]\r\n# a comment\r\n  ; another\r\nid = here\t \r\n\r\n"
                   "group=there");
    struct config *config = load_good(NULL);
    assert_string_equal(config->daemon->id, "here");
    assert_string_equal(config->daemon->group, "there");
    config_unref(config);
}

static void longest_line_is_taken_whole(void **state)
{
    (void)state;
    char text[300] = "[daemon]\nid = here\n[broker]\nusername=", *value = text + strlen(text);
    memset(value, 'x', 189);
    put(MAIN_FILE, text);
    struct config *config = load_good(NULL);
    assert_string_equal(config->broker->username, value);
    config_unref(config);
}

static void fixed_topics_are_fine_for_a_lone_device(void **state)
{
    (void)state;
    put_main("[topics]\ntelemetry = home/light\ncommands = home/led\n");
    struct config *config = load_good("device");
    assert_string_equal(config->topics->telemetry, "home/light");
    config_unref(config);
}

static void a_socket_has_no_port(void **state)
{
    (void)state;
    struct config *config = load_main("[broker]\ntransport = unix\nhost = /run/mosquitto.sock\n");
    assert_int_equal(config->broker->port, 0);
    config_unref(config);
}

static void references_keep_it_alive(void **state)
{
    (void)state;
    struct config *config = load_main("");
    assert_ptr_equal(config_ref(config), config);
    config_unref(config);
    assert_string_equal(config->daemon->id, "here");
    config_unref(config);
    config_unref(NULL);
}

static void sections_are_equal_by_what_they_say(void **state)
{
    (void)state;
    struct config *a = load_main("[sensor light]\ndriver = sim\nwave = sine\n");
    struct config *b = load_main("\n\n[sensor light]\nwave = sine\ndriver = sim\ninterval = 5s\n");
    struct config *c = load_main("[sensor light]\ndriver = sim\nwave = ramp\n");
    struct config *d = load_main("[sensor light]\ndriver = exec\ncommand = true\n");
    const struct config_section *section = config_nth(a, "sensor", 0);
    assert_true(config_section_equal(section, config_nth(b, "sensor", 0)));
    assert_false(config_section_equal(section, config_nth(c, "sensor", 0)));
    assert_false(config_section_equal(section, config_nth(d, "sensor", 0)));
    assert_false(config_section_equal(section, config_nth(a, "stream", 0)));
    config_unref(a);
    config_unref(b);
    config_unref(c);
    config_unref(d);
}

/* --- printing -------------------------------------------------------------------------------- */

static char *print(const struct config *config)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    config_print(config, out);
    fclose(out);
    return text;
}

static const char whole[] =
    "[daemon]\nid = here\ngroup = g\n[broker]\ntls = on\nhost = one two\nusername = bob; #1\n"
    "[topics]\ntelemetry = x/{id}/t\n[server]\ndevices = a-* b\n"
    "[stream fast]\ntopic = {id}/{stream}/{sensor}\nqos = 0\n"
    "[sensor light]\ndriver = sim\nstream = fast\nwave = ramp\nperiod = 1h 30min\n"
    "[sensor load]\ndriver = exec\ncommand = prog 'a b' \"c; d\"\n"
    "[actuator led_on]\ndriver = gpio\nchip = x\n"
    "[actuator speed]\ndriver = log\ntype = number\nmin = 0\nmax = 5\n"
    "[rule r]\nwhere = device\nwhen = light < 300\nthen = {\"led_on\": true, \"speed\": 3}\n";

static void what_is_printed_loads_again(void **state)
{
    (void)state;
    put(MAIN_FILE, whole);
    struct config *config = load_good("combined");
    char *printed = print(config);
    put(MAIN_FILE, printed);
    struct config *again = load_good(NULL);
    assert_int_equal(config->n_sections, again->n_sections);
    for (size_t i = 0; i < config->n_sections; i++)
        assert_true(config_section_equal(config->sections[i], again->sections[i]));
    config_unref(config);
    config_unref(again);
    free(printed);
}

static void a_rule_may_stand_before_its_actuator(void **state)
{
    (void)state;
    put(MAIN_FILE,
        "[daemon]\nid = here\n[rule r]\nwhere = device\nwhen = light < 300\nthen = {\"led_on\": true}\n"
        "[sensor light]\ndriver = sim\n[actuator led_on]\ndriver = log\n");
    config_unref(load_good("combined"));
}

static void what_is_printed_names_origins(void **state)
{
    (void)state;
    put_main("[sensor load]\ndriver = exec\ncommand = x\n");
    put("conf.d/1.conf", "[sensor load]\ntoken = hunter2\n");
    struct config *config = load_good("device");
    char *printed = print(config);
    assert_memory_equal(printed,
                        "[daemon]\n# command line\nrole = device\n# nightlightd.conf:2\nid = here\n"
                        "# default\ngroup = default\n",
                        90);
    assert_non_null(strstr(printed, "\n[sensor load]\n# nightlightd.conf:5\ndriver = exec\n"));
    assert_non_null(strstr(printed, "# conf.d/1.conf:2\n# token is set, and hidden here\n"));
    assert_null(strstr(printed, "hunter2"));
    assert_null(strstr(printed, "username"));
    config_unref(config);
    free(printed);
}

static void longest_line_is_printed_to_load_again(void **state)
{
    (void)state;
    char text[300] = "[daemon]\nid = here\n[broker]\nusername=";
    memset(text + strlen(text), 'x', 189);
    put(MAIN_FILE, text);
    struct config *config = load_good(NULL);
    char *printed = print(config);
    put(MAIN_FILE, printed);
    struct config *again = load_good(NULL);
    assert_string_equal(config->broker->username, again->broker->username);
    config_unref(config);
    config_unref(again);
    free(printed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_directory(empty_file_gives_the_defaults),
        in_directory(id_defaults_to_host_and_machine),
        in_directory(specifiers_work_in_id_and_group),
        in_directory(every_type_reaches_its_member),
        in_directory(the_keys_of_safety_are_of_the_actuators_type),
        in_directory(rules_hold_expressions_and_commands),
        in_directory(later_files_win_key_by_key),
        in_directory(role_of_the_command_line_wins),
        in_directory(order_of_keys_does_not_matter),
        in_directory(a_mark_and_dos_line_ends_are_no_harm),
        in_directory(longest_line_is_taken_whole),
        in_directory(fixed_topics_are_fine_for_a_lone_device),
        in_directory(a_socket_has_no_port),
        in_directory(references_keep_it_alive),
        in_directory(sections_are_equal_by_what_they_say),
        in_directory(what_is_printed_loads_again),
        in_directory(a_rule_may_stand_before_its_actuator),
        in_directory(what_is_printed_names_origins),
        in_directory(longest_line_is_printed_to_load_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
