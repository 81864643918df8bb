// SPDX-License-Identifier: LGPL-2.1-or-later
// Says why rules decided what they decided; see explainer.h. Owns the socket.
#include "server/explainer.h"

#include <string.h>

#include "core/json.h"
#include "io/inquiry.h"
#include "util/clock.h"
#include "util/log.h"

static const char socket_name[] = "server.sock";

struct explainer {
    struct inquiry *inquiry;
    const struct engine *engine;
};

/* --- the server ------------------------------------------------------------------------------ */

static char *format(const char *key, const char *text)
{
    _cleanup_(json_object_putp) struct json_object *object = json_object_new_object();
    if (!object || json_object_object_add(object, key, json_object_new_string(text)) < 0)
        return NULL;
    const char *json = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN);
    return json ? strdup(json) : NULL;
}

char *explainer_answer(const struct engine *engine, const char *question, size_t size,
                       const struct ruleset_now *now)
{
    _cleanup_(json_object_putp) struct json_object *object = NULL;
    _cleanup_(freep) char *text = NULL;
    struct why why = { "" };
    int r = json_parse_object(question, size, &object, &why);
    const char *rule = json_text_of(object, "explain");
    if (r == 0 && !rule)
        return format("error", "this is no question that the server knows");
    const struct account_scope scope = engine_scope(engine);
    if (r == 0)
        r = account_tell(&scope, rule, json_text_of(object, "for"), now, &text, &why);
    return r == 0 ? format("text", text) : format("error", why.text[0] ? why.text : strerror(-r));
}

static char *on_question(void *userdata, const char *question, size_t size)
{
    struct explainer *explainer = userdata;
    const struct ruleset_now now = { clock_mono_usec(), clock_wall_usec() };
    return explainer->engine ? explainer_answer(explainer->engine, question, size, &now) : NULL;
}

void explainer_configure(struct explainer *explainer, const struct engine *engine)
{
    explainer->engine = engine;
}

int explainer_new(sd_event *event, struct explainer **ret_explainer)
{
    _cleanup_(explainer_freep) struct explainer *explainer = calloc(1, sizeof(*explainer));
    _cleanup_(freep) char *path = inquiry_path(socket_name);
    if (!explainer || !path)
        return -ENOMEM;
    int r = inquiry_new(event, path, on_question, explainer, &explainer->inquiry);
    if (r == -ENOMEM)
        return r;
    if (r < 0) // as in a terminal, where nobody has made the directory
        log_notice(NULL, "'nightlightctl rules explain' cannot ask this server: %s: %s", path,
                   r == -EADDRINUSE ? "another one answers there" : strerror(-r));
    *ret_explainer = TAKE_PTR(explainer);
    return 0;
}

void explainer_free(struct explainer *explainer)
{
    if (!explainer)
        return;
    inquiry_free(explainer->inquiry);
    free(explainer);
}

/* --- who asks -------------------------------------------------------------------------------- */

static int make_question(const char *rule, const char *name, char **ret_question)
{
    _cleanup_(json_object_putp) struct json_object *object = json_object_new_object();
    if (!object || json_object_object_add(object, "explain", json_object_new_string(rule)) < 0 ||
        (name && json_object_object_add(object, "for", json_object_new_string(name)) < 0))
        return -ENOMEM;
    const char *json = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN);
    char *question = json ? strdup(json) : NULL;
    if (!question)
        return -ENOMEM;
    *ret_question = question;
    return 0;
}

static int read_answer(const char *answer, char **ret_text, struct why *why)
{
    _cleanup_(json_object_putp) struct json_object *object = NULL;
    int r = json_parse_object(answer, strlen(answer), &object, why);
    if (r < 0)
        return r;
    const char *text = json_text_of(object, "text"), *error = json_text_of(object, "error");
    if (!text && !error)
        return why_set(why, EBADMSG, "the server's answer makes no sense");
    char *copy = strdup(text ? text : error);
    if (!copy)
        return -ENOMEM;
    *ret_text = copy;
    return text ? 0 : 1;
}

int explainer_ask(const char *rule, const char *name, uint64_t wait_usec, char **ret_text,
                  struct why *why)
{
    _cleanup_(freep) char *path = inquiry_path(socket_name), *question = NULL, *answer = NULL;
    int r = path ? make_question(rule, name, &question) : -ENOMEM;
    if (r < 0)
        return r;
    r = inquiry_ask(path, question, wait_usec, &answer);
    if (r == -ENOENT || r == -ECONNREFUSED)
        return why_set(why, -r, "no server runs here: %s: %s", path, strerror(-r));
    if (r < 0)
        return why_set(why, -r, "cannot ask the server: %s: %s", path, strerror(-r));
    return read_answer(answer, ret_text, why);
}
