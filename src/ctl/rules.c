// SPDX-License-Identifier: LGPL-2.1-or-later
// nightlightctl rules: runs a configuration's rules over a recording, on the recording's clock;
// asks the running server why it decided.
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "config/config.h"
#include "ctl/ctl.h"
#include "server/engine.h"
#include "server/explainer.h"
#include "server/intake.h"
#include "server/recording.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/parse.h"

enum { MAX_COMPLAINTS = 10, EXPLANATION_SIZE = 1024 };

/* Of the simulated clock: long after its boot, so that late readings have a time before it. */
static const uint64_t first_mono_usec = 400ULL * 86400 * USEC_PER_SEC;

static const uint64_t answer_limit_usec = 5 * USEC_PER_SEC;

struct replay {
    struct engine *engine;
    struct intake *intake;
    struct ruleset_now now;
    uint64_t first_wall_usec; // of the recording
    const char *rule;         // NULL: tell all commands; else only the last of that rule
    const char *target;       // NULL: of anybody
    char *last;               // its line
    size_t n_messages, n_readings, n_commands, n_bad;
};

static int on_send(void *userdata, const struct ruleset_target *target,
                   const struct server_rule *rule, const struct command *command)
{
    struct replay *replay = userdata;
    if (replay->rule && strcmp(replay->rule, rule->section->name) != 0)
        return 0;
    if (replay->target && strcmp(replay->target, ruleset_target_name(target)) != 0)
        return 0;
    replay->n_commands++;
    char why[EXPLANATION_SIZE];
    const struct account_scope scope = engine_scope(replay->engine);
    account_finding(&scope, target, rule, &replay->now, why, sizeof(why));
    char *line = account_decision(replay->now.wall_usec, target->group, ruleset_target_name(target),
                                  rule, command, why);
    if (line && !replay->rule)
        puts(line);
    free(replay->last);
    replay->last = line;
    return 0;
}

static const struct decider_handlers engine_handlers = { .send = on_send };

/* Lets the time pass until wall_usec; the engine works when it wants to. */
static void pass(struct replay *replay, uint64_t wall_usec)
{
    if (wall_usec < replay->now.wall_usec) // a clock that was set back: time stands still
        return;
    uint64_t until_mono_usec = first_mono_usec + (wall_usec - replay->first_wall_usec);
    for (;;) {
        uint64_t next_mono_usec = engine_next_mono_usec(replay->engine);
        if (next_mono_usec > until_mono_usec)
            break;
        if (next_mono_usec > replay->now.mono_usec)
            replay->now.mono_usec = next_mono_usec;
        replay->now.wall_usec = replay->first_wall_usec + (replay->now.mono_usec - first_mono_usec);
        engine_run(replay->engine, &replay->now);
    }
    replay->now = (struct ruleset_now){ until_mono_usec, wall_usec };
}

/* As the server does. */
static uint64_t time_of(const struct recording *recording)
{
    struct json_object *member;
    uint64_t wall_usec = 0;
    if (json_object_object_get_ex(recording->payload, "time", &member) &&
        json_object_is_type(member, json_type_string) &&
        parse_rfc3339(json_object_get_string(member), &wall_usec) == 0)
        return wall_usec;
    return recording->taken_wall_usec;
}

static void take(struct replay *replay, const struct recording *recording)
{
    struct topic_slice id, group;
    struct json_object *status;
    if (replay->n_messages++ == 0) {
        replay->first_wall_usec = recording->wall_usec;
        replay->now = (struct ruleset_now){ first_mono_usec, recording->wall_usec };
    }
    pass(replay, recording->wall_usec);
    switch (intake_classify(replay->intake, recording->topic, &id, &group)) {
    case INTAKE_TELEMETRY:
        replay->n_readings++;
        engine_take(replay->engine, id, group, recording->payload, time_of(recording),
                    &replay->now);
        break;
    case INTAKE_STATUS:
        if (json_object_object_get_ex(recording->payload, "status", &status) &&
            json_object_is_type(status, json_type_string))
            engine_presence(replay->engine, id,
                            strcmp(json_object_get_string(status), "online") == 0, true,
                            &replay->now);
        break;
    default:
        break;
    }
}

static int read_recording(struct replay *replay, const char *path)
{
    _cleanup_(fclosep) FILE *file = fopen(path, "re");
    _cleanup_(freep) char *line = NULL;
    size_t size = 0, number = 0;
    if (!file)
        return -errno;
    for (ssize_t n; (n = getline(&line, &size, file)) >= 0;) {
        struct recording recording;
        struct why why = { "" };
        number++;
        if (recording_parse(line, (size_t)n, &recording, &why) == 0) {
            take(replay, &recording);
            recording_done(&recording);
        } else if (replay->n_bad++ < MAX_COMPLAINTS) {
            fprintf(stderr, "%s:%zu: %s; the line is left out\n", path, number, why.text);
        }
    }
    return ferror(file) ? -EIO : 0;
}

/* The recording before it goes first. */
static int replay_files(struct replay *replay, const char *path, bool with_older)
{
    _cleanup_(freep) char *older = NULL;
    if (with_older && asprintf(&older, "%s.1", path) < 0)
        return -ENOMEM;
    int r = older ? read_recording(replay, older) : 0;
    if (r < 0 && r != -ENOENT)
        return r;
    return read_recording(replay, path);
}

static int run_replay(struct replay *replay, struct config *config, const char *path)
{
    bool is_own = !path; // that which the server writes
    if (is_own)
        path = config->server->record;
    if (!path) {
        fputs("nightlightctl: there is no recording; expected --replay FILE, or record = FILE in "
              "[server]\n",
              stderr);
        return CTL_FAILED;
    }
    int r = intake_new(config, &replay->intake);
    if (r == 0)
        r = engine_new(config, &engine_handlers, replay, &replay->engine);
    if (r == 0)
        r = replay_files(replay, path, is_own);
    if (r < 0)
        fprintf(stderr, "nightlightctl: %s: %s\n", path, strerror(-r));
    return r < 0 ? CTL_FAILED : CTL_OK;
}

static void replay_done(struct replay *replay)
{
    engine_free(replay->engine);
    intake_free(replay->intake);
    free(replay->last);
}

static int test(struct config *config, const char *path)
{
    _cleanup_(replay_done) struct replay replay = { 0 };
    int code = run_replay(&replay, config, path);
    if (code == CTL_OK)
        fprintf(stderr, "%zu messages, %zu with readings, %zu left out; %zu commands\n",
                replay.n_messages, replay.n_readings, replay.n_bad, replay.n_commands);
    return code;
}

static int explain_recording(struct config *config, const char *path, const char *rule,
                             const char *target)
{
    _cleanup_(replay_done) struct replay replay = { .rule = rule, .target = target };
    const struct config_section *section = config_find(config, "rule", rule);
    if (!section || config_rule(section)->where != WHERE_SERVER) {
        fprintf(stderr, "nightlightctl: there is no rule '%s' of the server\n", rule);
        return CTL_FAILED;
    }
    int code = run_replay(&replay, config, path);
    if (code != CTL_OK)
        return code;
    if (!replay.last) {
        fprintf(stderr, "nightlightctl: in the recording rule %s decided nothing%s%s\n", rule,
                target ? " for " : "", target ? target : "");
        return CTL_FAILED;
    }
    puts(replay.last);
    return CTL_OK;
}

static int explain_running(const char *rule, const char *target)
{
    _cleanup_(freep) char *text = NULL;
    struct why why = { "" };
    int r = explainer_ask(rule, target, answer_limit_usec, &text, &why);
    if (r == 0) {
        puts(text);
        return CTL_OK;
    }
    fprintf(stderr, "nightlightctl: %s\n", text ? text : why.text[0] ? why.text : strerror(-r));
    return r == -ENOENT || r == -ECONNREFUSED || r == -ETIMEDOUT ? CTL_NO_ANSWER : CTL_FAILED;
}

static int usage(void)
{
    fputs("Usage: nightlightctl rules test [FILE] [--replay RECORDING]\n"
          "       nightlightctl rules explain NAME [--for TARGET]\n"
          "                     [--replay RECORDING [--config FILE]]\n",
          stderr);
    return CTL_FAILED;
}

static int run_rules(int argc, char **argv)
{
    enum { OPTION_REPLAY = 256, OPTION_FOR };
    static const struct option options[] = {
        { "replay", required_argument, NULL, OPTION_REPLAY },
        { "config", required_argument, NULL, 'c' },
        { "for", required_argument, NULL, OPTION_FOR },
        { 0 },
    };
    const char *path = NULL, *file = NULL, *target = NULL;
    for (int option; (option = getopt_long(argc, argv, "c:", options, NULL)) >= 0;) {
        if (option == OPTION_REPLAY)
            path = optarg;
        else if (option == 'c')
            file = optarg;
        else if (option == OPTION_FOR)
            target = optarg;
        else
            return usage();
    }
    const char *verb = optind < argc ? argv[optind++] : "";
    const char *word = optind < argc ? argv[optind++] : NULL;
    bool is_test = strcmp(verb, "test") == 0;
    if (optind < argc || (!is_test && (strcmp(verb, "explain") != 0 || !word)))
        return usage();
    if (!is_test && !path && file) {
        fputs("nightlightctl: --config goes with --replay: a running server has its own\n", stderr);
        return CTL_FAILED;
    }
    if (!is_test && !path)
        return explain_running(word, target);
    log_set_level(LOG_WARNING); // what it tells is its own
    _cleanup_(config_unrefp) struct config *config = NULL;
    if (ctl_load(is_test && word ? word : file, "server", &config) < 0)
        return CTL_BAD_CONFIG;
    return is_test ? test(config, path) : explain_recording(config, path, word, target);
}

const struct ctl_command ctl_command_rules = {
    .name = "rules",
    .help = "  rules test [FILE] [--replay RECORDING]\n"
            "                      run the rules of a configuration over recorded telemetry and\n"
            "                      print what would have been commanded, when, and why\n"
            "  rules explain NAME [--for TARGET]\n"
            "                      which readings made a rule decide what it last decided\n",
    .run = run_rules,
};
