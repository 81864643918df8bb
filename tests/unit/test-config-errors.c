// SPDX-License-Identifier: LGPL-2.1-or-later
// What a bad configuration is told: every kind of error, with its line and its words.
#include "test-config.h"

static void lines_that_inih_would_mangle_are_refused(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        { "[broker]\nport 1883\n", 2, "there is no '=' in the line; expected KEY = VALUE" },
        { "[broker]\n  port = 1\n", 2,
          "the line is indented; expected it to begin at the left margin" },
        { "[broker]\nport: 1 = 2\n", 2,
          "'port: 1' is not a key; expected KEY = VALUE with letters, digits and _" },
        { "[broker]\n= 1\n", 2, "there is no key before the '='; expected KEY = VALUE" },
        { "[broker]\nport =\n", 2,
          "broker.port: there is no value behind the '='; expected one, or no such line" },
        { "[broker]\nusername = bob ; me\n", 2,
          "broker.username: a ';' at the value's beginning or after a space would start a comment; "
          "expected comments on a line of their own" },
        { "[broker]\nusername =;x\n", 2,
          "broker.username: a ';' at the value's beginning or after a space would start a comment; "
          "expected comments on a line of their own" },
        { "[broker]\nusername = a\x01"
          "b\n",
          2, "the line holds the control character 0x01; expected text in UTF-8" },
        { "[broker]\nusername = a\xff\n", 2,
          "the line is not valid UTF-8; expected text in UTF-8" },
        { "[broker]\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa = 1\n", 2,
          "the key 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' has 50 bytes; expected at "
          "most 49" },
    };
    expect_each(cases, ELEMENTS(cases));
}

static void bad_headers_are_refused(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        { "[broker\nport = 1\n", 1,
          "the section's ']' is missing; expected [SECTION] or [SECTION NAME]" },
        { "[broker] # x\nport = 1\n", 1,
          "there is text behind the section's ']'; expected a line of its own" },
        { "[sensor aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]\n", 1,
          "the section's name has 50 bytes; expected at most 49" },
        { "[sensro light]\ndriver = sim\n", 1,
          "unknown section 'sensro' (did you mean 'sensor'?)" },
        { "[metrics]\nfile = /x\n", 1,
          "unknown section 'metrics'; expected one of daemon, broker, topics, queue, server, group, "
          "stream, sensor, actuator, action, rule" },
        { "[homeassistant]\n", 1,
          "unknown section 'homeassistant'; expected one of daemon, broker, topics, queue, server, group, "
          "stream, sensor, actuator, action, rule" },
        { "[sensor]\ndriver = sim\n", 1, "[sensor] has no name; expected [sensor NAME]" },
        { "[broker home]\n", 1, "[broker] takes no name, but has 'home'; expected [broker]" },
        { "[actuator a/b]\n", 1,
          "'a/b' is no name for a section [actuator NAME]; expected A-Z a-z 0-9 . _ : @ -" },
        { "[sensor time]\n", 1,
          "a sensor cannot be named 'time', which is kept for the time of a sample; expected "
          "another name" },
        { " [broker]\nport = 1\n", 1,
          "the line is indented; expected it to begin at the left margin" },
        { "[sensor light]\ndriver = sim\n\n[sensor light]\nscale = 2\n", 4,
          "duplicate name: [sensor light] stands in line 4 already; expected it once" },
        { "[daemon]\ngroup = x\n", 1,
          "duplicate name: [daemon] stands in line 1 already; expected it once" },
    };
    expect_each(cases, ELEMENTS(cases));
}

static void lines_outside_of_everything_are_refused(void **state)
{
    (void)state;
    put(MAIN_FILE, "role = device\n[daemon]\nid = here\n");
    expect_errors(NULL,
                  MAIN_FILE ":1: the key 'role' stands outside a section; expected a [SECTION] "
                            "first",
                  NULL);
    static const char nul[] = "[daemon]\nid = here\0there\ngroup = x\n";
    put_bytes(MAIN_FILE, nul, sizeof(nul) - 1);
    expect_errors("x",
                  "command line: daemon.role: 'x' is not one of the choices; expected one of "
                  "device, server, combined",
                  MAIN_FILE ":2: the line holds a NUL byte; expected text in UTF-8", NULL);
}

static void a_line_too_long_is_refused(void **state)
{
    (void)state;
    char text[400] = "[daemon]\nid = here\n[broker]\nusername=";
    memset(text + strlen(text), 'x', 190);
    put(MAIN_FILE, text);
    expect_errors(NULL, MAIN_FILE ":4: the line has 199 bytes; expected at most 198", NULL);
}

static void unknown_keys_name_the_nearest(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        { "[broker]\nprot = 1\n", 2, "broker.prot: unknown key (did you mean 'port'?)" },
        { "[server]\nrecord = yes\n", 2,
          "server.record: 'yes' is no absolute path; expected one that begins with /" },
        { "[server]\nfilter = yes\n", 2,
          "server.filter: unknown key; expected one of devices, groups, share, record, record_max_size, "
          "record_max_age, forget_after" },
        { "[sensor light]\nintervall = 5s\ndriver = sim\n", 2,
          "sensor light.intervall: unknown key (did you mean 'interval'?)" },
        { "[sensor light]\ndriver = sim\nwaev = sine\n", 3,
          "sensor light.waev: unknown key (did you mean 'wave'?)" },
        { "[sensor light]\ndriver = sim\ncommand = x\n", 3,
          "sensor light.command: a key of the driver exec, but the driver here is sim" },
        { "[actuator led]\ndriver = log\nfail_safe = no\n", 3,
          "actuator led.fail_safe: unknown key; expected one of driver, type, min, max, initial, "
          "safe, on_exit, on_disconnect, disconnect_after" },
        { "[rule r]\nwhen = a < 1\nthen = {\"a\": 1}\nweekdays = 3\n", 4,
          "rule r.weekdays: unknown key; expected one of where, scope, devices, when, until, then, "
          "else, hold, stale_after, min_devices, send, refresh, delivery, qos, expires, for" },
        { "[metrics]\n", 1,
          "unknown section 'metrics'; expected one of daemon, broker, topics, queue, server, group, "
          "stream, sensor, actuator, action, rule" },
    };
    expect_each(cases, ELEMENTS(cases));
}

static void repeated_keys_name_the_first_line(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        { "[broker]\nport = 1\nport = 2\n", 3,
          "broker.port: repeated key, already set in line 5; expected it once" },
        { "[broker]\nprot = 1\n", 2, "broker.prot: unknown key (did you mean 'port'?)" },
    };
    expect_each(cases, ELEMENTS(cases));
}

static void values_of_the_wrong_kind_are_refused(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        { "[sensor light]\ndriver = sim\ninterval = 5q\n", 3,
          "sensor light.interval: '5q' is not a duration; expected a duration such as 5s, from 10ms "
          "to 1d" },
        { "[sensor light]\ndriver = sim\ninterval = 2d\n", 3,
          "sensor light.interval: '2d' is out of range; expected a duration such as 5s, from 10ms "
          "to 1d" },
        { "[sensor light]\ndriver = sim\ninterval = infinity\n", 3,
          "sensor light.interval: 'infinity' is out of range; expected a duration such as 5s, from "
          "10ms to 1d" },
        { "[broker]\nport = 65536\n", 2,
          "broker.port: '65536' is out of range; expected a whole number from 1 to 65535" },
        { "[broker]\nport = 0x10\n", 2,
          "broker.port: '0x10' is not a whole number; expected a whole number from 1 to 65535" },
        { "[broker]\ntls = maybe\n", 2,
          "broker.tls: 'maybe' is not a yes or no; expected yes or no" },
        { "[broker]\ntransport = websockets\n", 2,
          "broker.transport: 'websockets' is not one of the choices; expected one of tcp, unix" },
        { "[daemon]\nrole = servr\n", 2, NULL },
        { "[rule r]\nwhere = cloud\nwhen = a < 1\nthen = {\"a\": 1}\n", 2,
          "rule r.where: 'cloud' is not one of the choices; expected one of server, device, "
          "offline" },
        { "[rule r]\nscope = house\nwhen = a < 1\nthen = {\"a\": 1}\n", 2,
          "rule r.scope: 'house' is not one of the choices; expected one of device, group" },
        { "[sensor light]\ndriver = sim\nscale = 1e400\n", 3,
          "sensor light.scale: '1e400' is out of range; expected a number" },
        { "[sensor light]\ndriver = sim\nscale = nan\n", 3,
          "sensor light.scale: 'nan' is not a number; expected a number" },
        { "[sensor light]\ndriver = sim\ndeadband = -1\n", 3,
          "sensor light.deadband: '-1' is out of range; expected a number of at least 0" },
        { "[sensor light]\ndriver = sim\nmemory = 1X\n", 3,
          "sensor light.memory: '1X' is not a size; expected a size such as 64K, from 1K to 64M" },
        { "[sensor light]\ndriver = sim\nmemory = 1\n", 3,
          "sensor light.memory: '1' is out of range; expected a size such as 64K, from 1K to 64M" },
        { "[sensor light]\ndriver = exec\ncommand = 'open\n", 3,
          "sensor light.command: ''open' is not a command line; expected a program and its "
          "arguments, quotes closed" },
        { "[broker]\nkeepalive = 7500ms\n", 2,
          "broker.keepalive: '7500ms' has a fraction of a second; expected whole seconds" },
        { "[server]\ndevices = a b/c\n", 2,
          "server.devices: 'b/c' is no pattern of ids; expected 1 to 64 of A-Z a-z 0-9 . _ : @ - "
          "and the wildcards * and ?" },
    };
    for (size_t i = 0; i < ELEMENTS(cases); i++) {
        if (cases[i].what)
            expect_each(&cases[i], 1);
    }
    put(MAIN_FILE, "[daemon]\nid = here\nrole = servr\n");
    expect_errors(NULL,
                  MAIN_FILE ":3: daemon.role: 'servr' is not known (did you mean 'server'?); "
                            "expected one of device, server, combined",
                  NULL);
}

static void secrets_are_not_quoted(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        { "[sensor s]\ndriver = exec\ncommand = x\ntoken = abc\n", 4,
          "sensor s.token: the value is out of range; expected a text of 4 to 16 bytes" },
    };
    expect_each(cases, ELEMENTS(cases));
}

static void conditions_and_commands_are_parsed(void **state)
{
    (void)state;
    put_main("[rule r]\nwhen = light <\nthen = {\"$id\": 1}\nuntil = light + 1\n");
    struct config *config = NULL;
    struct config_errors errors = { 0 };
    assert_int_equal(load(NULL, &config, &errors), -EINVAL);
    assert_int_equal(errors.n_lines, 3);
    static const char *const keys[] = { ":5: rule r.when: column ",
                                        ":6: rule r.then: ", ":7: rule r.until: " };
    for (size_t i = 0; i < 3; i++)
        assert_non_null(strstr(errors.lines[i], keys[i]));
    assert_non_null(strstr(errors.lines[0], "expected "));
    assert_non_null(strstr(errors.lines[1], "; expected a JSON object such as {\"led_on\": true}"));
    config_errors_done(&errors);
}

static void what_is_required_is_missed(void **state)
{
    (void)state;
    put_main("[sensor light]\n[rule r]\nuntil = a < 1\n[actuator led]\ndriver = gpio\n");
    expect_errors(
        NULL, MAIN_FILE ":4: sensor light.driver: the key is missing; expected one of sim, exec",
        MAIN_FILE ":5: rule r.when: the key is missing; expected a condition such as "
                  "light < 300",
        MAIN_FILE ":5: rule r.then: the key is missing; expected a JSON object such as "
                  "{\"led_on\": true}",
        MAIN_FILE ":7: actuator led.chip: the key is missing; expected a text", NULL);
}

static void drivers_are_checked(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        { "[sensor light]\nwave = sine\ndriver = sin\n", 3,
          "sensor light.driver: unknown driver 'sin' (did you mean 'sim'?); expected one of sim, "
          "exec" },
        { "[actuator led]\ndriver = relay\n", 2,
          "actuator led.driver: unknown driver 'relay'; expected one of gpio, log" },
        { "[sensor light]\ndriver = sim\nmin = 5\nmax = 5\n", 1,
          "sensor light: min is not less than max" },
        { "[actuator led]\ndriver = gpio\nchip = x\ntype = number\n", 4,
          "actuator led.type: the driver gpio does not take a number; expected bool" },
    };
    expect_each(cases, ELEMENTS(cases));
}

static void ranges_are_held_against_each_other(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        { "[actuator s]\ndriver = log\ntype = number\nmin = 3\nmax = 2\n", 5,
          "actuator s.max: is not greater than min; expected it to be" },
        { "[actuator s]\ndriver = log\nmax = 2\n", 3,
          "actuator s.max: is for numbers; expected type = number too" },
        { "[action backup]\n", 1, "action backup.unit: the key is missing; expected a unit" },
        { "[action backup]\nunit = backup\n", 2,
          "action backup.unit: 'backup' is no unit to start; expected a name such as "
          "backup.service" },
        { "[action backup]\nunit = a b.service\n", 2,
          "action backup.unit: 'a b.service' is no unit to start; expected a name such as "
          "backup.service" },
        { "[action reboot]\nunit = reboot.target\n", 2,
          "action reboot.unit: does not go with reboot; expected no such line" },
        { "[action sample]\nunit = sample.service\n", 1,
          "action sample: every device has that action; expected another name" },
        { "[actuator s]\ndriver = log\nsafe = maybe\n", 3,
          "actuator s.safe: 'maybe' is no boolean; expected yes or no" },
        { "[actuator s]\ndriver = log\ntype = number\ninitial = off\n", 4,
          "actuator s.initial: 'off' is no number; expected a number" },
        { "[actuator s]\ndriver = log\ntype = number\nmax = 5\ninitial = 5.1\n", 5,
          "actuator s.initial: 'initial' takes -inf to 5, this is 5.1; expected a number in that "
          "range" },
        { "[actuator s]\ndriver = log\ninitial = no\non_exit = safe\n", 4,
          "actuator s.on_exit: is safe, but there is no safe; expected it too" },
        { "[actuator s]\ndriver = log\non_disconnect = safe\n", 3,
          "actuator s.on_disconnect: is safe, but there is no safe; expected it too" },
        { "[actuator s]\ndriver = log\ndisconnect_after = 0s\n", 3,
          "actuator s.disconnect_after: '0s' is out of range; expected a duration such as 5s, from "
          "100ms to 365d" },
        { "[sensor s]\ndriver = sim\nvalid_min = 3\nvalid_max = 2\n", 4,
          "sensor s.valid_max: is not greater than valid_min; expected it to be" },
        { "[sensor s]\ndriver = sim\ninterval = 1s\nsample_interval = 2s\n", 4,
          "sensor s.sample_interval: is longer than interval; expected it to be at most that" },
        { "[sensor s]\ndriver = sim\nmax_silence = 2s\n", 3,
          "sensor s.max_silence: has no effect alone; expected deadband too" },
        { "[broker]\nreconnect_min = 10min\n", 2,
          "broker.reconnect_min: is greater than reconnect_max; expected it to be at most that" },
        { "[sensor s]\ndriver = sim\nstream = telemetri\n", 3,
          "sensor s.stream: there is no stream 'telemetri' (did you mean 'telemetry'?); expected one "
          "of that name" },
    };
    expect_each(cases, ELEMENTS(cases));
}

static void broker_keys_go_together(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        { "[broker]\nca_file = x\n", 2,
          "broker.ca_file: has no effect without TLS; expected tls = yes" },
        { "[broker]\ntls = yes\ncert_file = x\n", 3,
          "broker.cert_file: does not work alone; expected key_file too" },
        { "[broker]\ntls = yes\npsk_file = x\n", 3,
          "broker.psk_file: does not work alone; expected psk_identity too" },
        { "[broker]\ntls = yes\npsk_file = x\npsk_identity = y\nca_file = z\n", 5,
          "broker.ca_file: does not go with a pre-shared key; expected one or the other" },
        { "[broker]\npassword_file = x\n", 2,
          "broker.password_file: does not work alone; expected username too" },
        { "[broker]\ntransport = unix\nhost = here\n", 3,
          "broker.host: 'here' is no socket; expected an absolute path with transport = unix" },
        { "[broker]\ntransport = unix\nhost = /x\ntls = on\n", 4,
          "broker.tls: does not go with transport = unix; expected no" },
        { "[broker]\ntransport = unix\nhost = /x\nport = 1\n", 4,
          "broker.port: does not go with transport = unix; expected no such line" },
        { "[broker]\nhost = mqtt://here\n", 2,
          "broker.host: 'mqtt://here' is a URL; expected a name or address alone, the port in port "
          "and encryption in tls" },
        { "[broker]\nhost = /run/mqtt\n", 2,
          "broker.host: '/run/mqtt' is no name or address; expected one, or transport = unix" },
        { "[broker]\nhost = here:1883\n", 2,
          "broker.host: 'here:1883' names a port; expected a name or address, and the port in "
          "port" },
    };
    expect_each(cases, ELEMENTS(cases));
}

static void strangers_devices_are_refused(void **state)
{
    (void)state;
    static const char text[] = "[broker]\nhost = localhost Test.Mosquitto.Org.\n";
    put_main(text);
    expect_errors("server",
                  MAIN_FILE ": server.devices: '*' on the public broker Test.Mosquitto.Org. takes "
                            "in everybody's devices, and the rules would switch them; expected the "
                            "ids of your own, or a prefix",
                  NULL);
    config_unref(load_good("device"));
    put("conf.d/mine.conf", "[server]\ndevices = mine-*\n");
    config_unref(load_good("server"));
    put("conf.d/mine.conf", "[server]\ndevices = mine-* ?*\n");
    expect_errors("server",
                  "conf.d/mine.conf:2: server.devices: '?*' on the public broker "
                  "Test.Mosquitto.Org. takes in everybody's devices, and the rules would switch "
                  "them; expected the ids of your own, or a prefix",
                  NULL);
}

static void topics_must_tell_devices_apart(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        { "[topics]\ntelemetry = home/light\n", 2,
          "topics.telemetry: has no {id}, by which a server tells devices apart; expected it in one "
          "level" },
        { "[stream s]\ntopic = home/{stream}\n", 2,
          "stream s.topic: has no {id}, by which a server tells devices apart; expected it in one "
          "level" },
        { "[topics]\nstate = {id}/commands\n", 2,
          "topics.state: commands and state are the same topic; expected different ones" },
    };
    expect_each(cases, ELEMENTS(cases));
    static const char *const refused[] = { "telemetry = a/+", "commands = {id}/{sensor}",
                                           "group_commands = {id}/x", "status = {id}/{stream}" };
    for (size_t i = 0; i < ELEMENTS(refused); i++) {
        char text[128];
        struct config *config = NULL;
        struct config_errors errors = { 0 };
        snprintf(text, sizeof(text), "[topics]\n%s\n", refused[i]);
        put_main(text);
        assert_int_equal(load(NULL, &config, &errors), -EINVAL);
        assert_int_equal(errors.n_lines, 1);
        assert_memory_equal(errors.lines[0], MAIN_FILE ":5: topics.", 27);
        assert_non_null(strstr(errors.lines[0], "; expected a template such as "));
        config_errors_done(&errors);
    }
}

static void a_device_rule_knows_its_names(void **state)
{
    (void)state;
    static const char text[] = "[sensor light]\ndriver = sim\n"
                               "[actuator led_on]\ndriver = log\n"
                               "[rule r]\nwhere = device\nwhen = light < 3\nuntil = lihgt > 4\n"
                               "then = {\"led\": true}\nelse = {\"led_on\": 5}\n";
    put_main(text);
    struct config *config = NULL;
    struct config_errors errors = { 0 };
    assert_int_equal(load(NULL, &config, &errors), -EINVAL);
    assert_int_equal(errors.n_lines, 3);
    assert_string_equal(errors.lines[0],
                        MAIN_FILE ":11: rule r.until: there is no sensor 'lihgt' (did you mean "
                                  "'light'?); expected one of that name");
    assert_string_equal(errors.lines[1], MAIN_FILE ":12: rule r.then: there is no actuator 'led'; "
                                                   "expected one of that name");
    assert_non_null(strstr(errors.lines[2], MAIN_FILE ":13: rule r.else: "));
    config_errors_done(&errors);
    config_unref(load_good("server")); // has no sensors to look at
}

static void ids_must_fit_a_topic(void **state)
{
    (void)state;
    put(MAIN_FILE, "[daemon]\nid = a/b\ngroup = %x\n");
    expect_errors(NULL,
                  MAIN_FILE ":2: daemon.id: 'a/b' cannot be a level of a topic; expected 1 to 64 "
                            "of A-Z a-z 0-9 . _ : @ -",
                  MAIN_FILE ":3: daemon.group: unknown specifier '%x'; expected %H, %m or %%",
                  NULL);
    put(MAIN_FILE, "[daemon]\nid = here\ngroup = 5%%\n");
    expect_errors(NULL,
                  MAIN_FILE ":3: daemon.group: '5%' cannot be a level of a topic; expected 1 to 64 "
                            "of A-Z a-z 0-9 . _ : @ -",
                  NULL);
}

static void a_bad_id_is_reported_beside_another_bad_key(void **state)
{
    (void)state;
    put(MAIN_FILE, "[daemon]\nrole = client\nid = a/b\n");
    expect_errors(NULL,
                  MAIN_FILE ":2: daemon.role: 'client' is not one of the choices; expected one of "
                            "device, server, combined",
                  MAIN_FILE ":3: daemon.id: 'a/b' cannot be a level of a topic; expected 1 to 64 "
                            "of A-Z a-z 0-9 . _ : @ -",
                  NULL);
}

static void quotes_and_what_is_no_json_are_refused(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        { "[broker]\nhost = \"localhost\"\n", 2,
          "broker.host: '\"localhost\"' stands in quotes; expected a name or address without" },
        { "[rule r]\nwhen = light < 300\nthen = led_on = true\n", 3,
          "rule r.then: not a JSON object, which begins with '{'; expected a JSON object such as "
          "{\"led_on\": true}" },
    };
    expect_each(cases, ELEMENTS(cases));
}

static void files_that_cannot_be_read_are_named(void **state)
{
    (void)state;
    expect_errors(NULL, MAIN_FILE ": the file cannot be read: No such file or directory", NULL);
    put_main("[sensor light]\nbad\n");
    mkdir("conf.d", 0755);
    mkdir("conf.d/x.conf", 0755);
    expect_errors(NULL, MAIN_FILE ":5: there is no '=' in the line; expected KEY = VALUE",
                  "conf.d/x.conf: the file cannot be read: Is a directory", NULL);
    rmdir("conf.d/x.conf");
    size_t size = (1 << 20) + 1;
    char *large = malloc(size);
    memset(large, '\n', size);
    put_bytes("conf.d/x.conf", large, size);
    free(large);
    expect_errors(NULL, MAIN_FILE ":5: there is no '=' in the line; expected KEY = VALUE",
                  "conf.d/x.conf: the file is too large; expected at most 1 MiB", NULL);
}

static void too_many_sections_or_keys_are_refused(void **state)
{
    (void)state;
    FILE *file = fopen(MAIN_FILE, "we");
    assert_non_null(file);
    fprintf(file, "[daemon]\nid = here\n");
    for (int i = 0; i < 4096 - 6 + 1; i++) // six are always there
        fprintf(file, "[stream s%d]\n", i);
    fclose(file);
    expect_errors(NULL, MAIN_FILE ":4093: there are more than 4096 sections; expected fewer", NULL);
    for (int i = 0; i < 257; i++) {
        char path[32];
        snprintf(path, sizeof(path), "conf.d/%03d.conf", i);
        put(path, "[broker]\nport = 1\n");
    }
    put(MAIN_FILE, "[daemon]\nid = here\n");
    expect_errors(NULL, MAIN_FILE ": conf.d holds 257 files; expected at most 256", NULL);
}

static void too_many_keys_are_refused(void **state)
{
    (void)state;
    FILE *file = fopen(MAIN_FILE, "we");
    assert_non_null(file);
    fprintf(file, "[daemon]\nid = here\n[broker]\n");
    for (int i = 0; i < 257; i++)
        fprintf(file, "x%d = 1\n", i);
    fclose(file);
    struct config *config = NULL;
    struct config_errors errors = { 0 };
    assert_int_equal(load(NULL, &config, &errors), -EINVAL);
    assert_int_equal(errors.n_lines, 257); // the others are unknown
    assert_string_equal(errors.lines[256], MAIN_FILE ":260: broker.x256: the section has more than "
                                                     "256 keys; expected fewer");
    config_errors_done(&errors);
}

static void every_error_of_all_files_comes_in_order(void **state)
{
    (void)state;
    put_main("[sensor light]\ndriver = sim\ninterval = 5q\nstream = none\n[brokr]\nx = 1\n"
             "[broker]\nport = 99999\n[rule r]\nwhen = a < 1\n");
    put("conf.d/2.conf", "[broker]\nport = 1\nnonsense\nprotocol = 4\n");
    put("conf.d/1.conf", "[sensor light]\nmax = -1\nscale = x\n");
    expect_errors(
        "devise",
        "command line: daemon.role: 'devise' is not known (did you mean 'device'?); expected one "
        "of device, server, combined",
        MAIN_FILE ":6: sensor light.interval: '5q' is not a duration; expected a duration such as "
                  "5s, from 10ms to 1d",
        MAIN_FILE ":8: unknown section 'brokr' (did you mean 'broker'?)",
        MAIN_FILE ":11: broker.port: '99999' is out of range; expected a whole number from 1 to "
                  "65535",
        "conf.d/1.conf:3: sensor light.scale: 'x' is not a number; expected a number",
        "conf.d/2.conf:3: there is no '=' in the line; expected KEY = VALUE",
        "conf.d/2.conf:4: broker.protocol: '4' is not one of the choices; expected one of auto, 5, "
        "3.1.1",
        NULL);
}

static void scopes_that_do_not_fit_are_refused(void **state)
{
    (void)state;
#define GROUP_RULE(line)  "[rule r]\nscope = group\n" line "\nthen = {\"a\": 1}\n"
#define DEVICE_RULE(line) "[rule r]\n" line "\nthen = {\"a\": 1}\n"
    static const struct bad cases[] = {
        { GROUP_RULE("when = light < 300"), 3,
          "rule r.when: light is one device's; with scope = group, expected it within an aggregate "
          "such as median(light)" },
        { GROUP_RULE("when = max(light) < 300\nuntil = mean(light, 1h) > 5"), 4,
          "rule r.until: light is one device's; with scope = group, expected it within an "
          "aggregate such as median(light)" },
        { DEVICE_RULE("when = median(light) < 300"), 2,
          "rule r.when: looks at the devices of a group; expected scope = group too, or a span of "
          "time, as in mean(light, 10min)" },
        { DEVICE_RULE("when = a < 1\nmin_devices = 2"), 3,
          "rule r.min_devices: has no effect alone; expected scope = group too" },
        { GROUP_RULE("min_devices = 0\nwhen = max(light) < 300"), 3,
          "rule r.min_devices: '0' is out of range; expected a whole number from 1 to 1000000" },
        { "[sensor a]\ndriver = sim\n[actuator b]\ndriver = log\n[rule r]\nwhere = device\n"
          "when = max(a, 1h) < 300\nthen = {\"b\": true}\n",
          7,
          "rule r.when: a window over time is the server's to look at; expected where = server" },
        { "[actuator a]\ndriver = log\ntype = number\n" GROUP_RULE(
              "where = device\nwhen = max(a) < 300"),
          5,
          "rule r.scope: a device decides for itself alone; expected where = server for a group" },
        { DEVICE_RULE("delivery = plain\nfor = 1min\nwhen = a < 1"), 3,
          "rule r.for: does not go with delivery = plain; expected auto, latest or ordered" },
        { DEVICE_RULE("delivery = plain\nwhen = a < 1\nexpires = 1min"), 4,
          "rule r.expires: does not go with delivery = plain; expected auto, latest or ordered" },
        { GROUP_RULE("delivery = ordered\nwhen = max(light) < 300"), 3,
          "rule r.delivery: a queue is one device's; expected scope = device, or delivery = "
          "latest" },
        { DEVICE_RULE("delivery = ordered\nrefresh = 1min\nwhen = a < 1"), 2,
          "rule r.delivery: what is sent in order is sent once; expected no for, no refresh and no "
          "send = always beside it, or delivery = latest" },
        { DEVICE_RULE("for = 1min\nwhen = a < 1\nrefresh = 1min"), 4,
          "rule r.refresh: comes too late for what for grants; expected a shorter time" },
        { "[sensor a]\ndriver = sim\n[actuator b]\ndriver = log\n[rule r]\nwhere = device\n"
          "when = a < 300\nthen = {\"b\": true}\nexpires = 1min\n",
          9, "rule r.expires: is about commands that are sent; expected where = server" },
        { "[server]\nshare = a/b\n", 2,
          "server.share: 'a/b' is no name of a share; expected 1 to 64 of A-Z a-z 0-9 . _ : @ -" },
        { "[server]\nshare = a\n[broker]\nprotocol = 3.1.1\n", 2,
          "server.share: needs MQTT 5; expected protocol = auto or 5" },
        { "[server]\nshare = a\n[broker]\nsession_expiry = 1h\n", 2,
          "server.share: does not go with session_expiry: the messages of a server that is away "
          "would wait for it; expected session_expiry = 0s" },
        { "[server]\nshare = a\n" GROUP_RULE("when = max(light) < 300"), 2,
          "server.share: rule r is for groups and has to hear every device; expected it on a server "
          "of its own, with groups instead of share" },
        { "[group g]\n", 1,
          "group g.devices: the key is missing; expected words separated by spaces" },
    };
    expect_each(cases, ELEMENTS(cases));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_directory(scopes_that_do_not_fit_are_refused),
        in_directory(lines_that_inih_would_mangle_are_refused),
        in_directory(bad_headers_are_refused),
        in_directory(lines_outside_of_everything_are_refused),
        in_directory(a_line_too_long_is_refused),
        in_directory(unknown_keys_name_the_nearest),
        in_directory(repeated_keys_name_the_first_line),
        in_directory(values_of_the_wrong_kind_are_refused),
        in_directory(secrets_are_not_quoted),
        in_directory(conditions_and_commands_are_parsed),
        in_directory(what_is_required_is_missed),
        in_directory(drivers_are_checked),
        in_directory(ranges_are_held_against_each_other),
        in_directory(broker_keys_go_together),
        in_directory(strangers_devices_are_refused),
        in_directory(topics_must_tell_devices_apart),
        in_directory(a_device_rule_knows_its_names),
        in_directory(ids_must_fit_a_topic),
        in_directory(a_bad_id_is_reported_beside_another_bad_key),
        in_directory(quotes_and_what_is_no_json_are_refused),
        in_directory(files_that_cannot_be_read_are_named),
        in_directory(too_many_sections_or_keys_are_refused),
        in_directory(too_many_keys_are_refused),
        in_directory(every_error_of_all_files_comes_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
