// SPDX-License-Identifier: LGPL-2.1-or-later
// Loads a configuration from its files: config_load() and config_errors_done(), see config.h. Must
// not log.
#include <dirent.h>
#include <string.h>

#include "config/build.h"
#include "config/check.h"
#include "config/errors.h"
#include "config/reader.h"
#include "util/files.h"
#include "util/strings.h"

enum { MAX_FILES = 256 }; // in conf.d

/* --- files ----------------------------------------------------------------------------------- */

static int is_drop_in(const struct dirent *entry)
{
    static const char suffix[] = ".conf";
    size_t length = strlen(entry->d_name), suffix_length = sizeof(suffix) - 1;
    return entry->d_name[0] != '.' && length > suffix_length &&
           strcmp(entry->d_name + length - suffix_length, suffix) == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); // bytes, whatever the locale
}

/* The path of conf.d beside file. */
static char *drop_in_directory(const char *file)
{
    const char *slash = strrchr(file, '/');
    char *path;
    if (asprintf(&path, "%.*sconf.d", slash ? (int)(slash - file + 1) : 0, file) < 0)
        return NULL;
    return path;
}

/* Lists the main file and those in conf.d. problem is set when conf.d cannot be read. */
static int list_files(const char *file, char ***ret_files, struct why *problem)
{
    _cleanup_(freep) char *directory = drop_in_directory(file);
    if (!directory)
        return -ENOMEM;
    struct dirent **entries = NULL;
    int n = scandir(directory, &entries, is_drop_in, by_name);
    if (n < 0 && errno == ENOMEM)
        return -ENOMEM;
    if (n < 0 && errno != ENOENT && errno != ENOTDIR)
        why_set(problem, EINVAL, "%s cannot be read: %s", directory, strerror(errno));
    if (n > MAX_FILES)
        why_set(problem, EINVAL, "%s holds %d files; expected at most %d", directory, n, MAX_FILES);
    _cleanup_(strings_freep) char **files = calloc((size_t)(n > 0 ? n : 0) + 2, sizeof(char *));
    bool ok = files && (files[0] = strdup(file));
    for (int i = 0; i < n; i++) {
        ok = ok && asprintf(&files[i + 1], "%s/%s", directory, entries[i]->d_name) >= 0;
        free(entries[i]);
    }
    free(entries);
    if (!ok)
        return -ENOMEM;
    *ret_files = TAKE_PTR(files);
    return 0;
}

/* Reads all files into raw. false if one of them could not be had at all. */
static bool read_files(struct raw_config *raw, char *const *files, struct errors *errors)
{
    bool ok = true;
    for (size_t i = 0; files[i]; i++) {
        _cleanup_(freep) char *text = NULL;
        size_t length = 0;
        struct place place = { .file = files[i] };
        int r = files_read(files[i], READER_MAX_FILE, &text, &length);
        if (r == 0) {
            reader_read(raw, files[i], text, length, errors);
            continue;
        }
        ok = false;
        if (r == -EFBIG)
            errors_add(errors, &place, "the file is too large; expected at most 1 MiB");
        else
            errors_add(errors, &place, "the file cannot be read: %s", strerror(-r));
    }
    return ok;
}

/* --- loading --------------------------------------------------------------------------------- */

static const void *data_of(const struct config *config, const char *kind)
{
    const struct config_section *section = config_nth(config, kind, 0);
    return section ? section->data : NULL;
}

static void check_sections(struct config *config, const struct config_sources *sources,
                           bool incomplete, struct errors *errors)
{
    config->daemon = data_of(config, "daemon");
    config->broker = data_of(config, "broker");
    config->topics = data_of(config, "topics");
    config->queue = data_of(config, "queue");
    config->server = data_of(config, "server");
    struct check check = {
        .config = config,
        .sources = sources,
        .errors = errors,
        .incomplete = incomplete,
        .role_known = !config_nth(config, "daemon", 0)->bad,
    };
    check_all(&check);
}

static void add_role(struct raw_config *raw, const char *role, struct errors *errors)
{
    struct raw_section *section = reader_section(raw, schema_find_section("daemon"), "", errors);
    if (section)
        reader_add_value(section, "role", role, "command line", 0, errors);
}

/* Everything that can be said about the files is in errors afterwards. */
static void load_files(struct config *config, const struct config_sources *sources,
                       struct errors *errors)
{
    struct raw_config raw = { 0 };
    build_begin(&raw, errors);
    // Without one of the files, what the others say cannot be judged as a whole.
    if (read_files(&raw, config->files, errors) && !errors->out_of_memory) {
        if (sources->role)
            add_role(&raw, sources->role, errors);
        build_sections(config, &raw, sources, errors);
        if (!errors->out_of_memory)
            check_sections(config, sources, raw.incomplete, errors);
    }
    reader_done(&raw);
}

int config_load(const struct config_sources *sources, struct config **ret_config,
                struct config_errors *ret_errors)
{
    const char *file = sources->file ? sources->file : NIGHTLIGHT_SYSCONFDIR "/nightlightd.conf";
    _cleanup_(config_unrefp) struct config *config = calloc(1, sizeof(*config));
    struct why problem = { 0 };
    if (!config)
        return -ENOMEM;
    config->n_references = 1;
    int r = list_files(file, &config->files, &problem);
    if (r < 0)
        return r;
    struct errors errors = { .files = config->files };
    if (*problem.text)
        errors_add(&errors, &(struct place){ .file = file }, "%s", problem.text);
    else
        load_files(config, sources, &errors);
    r = errors_finish(&errors, &ret_errors->lines, &ret_errors->n_lines);
    errors_done(&errors);
    if (r < 0)
        return r;
    *ret_config = TAKE_PTR(config);
    return 0;
}

void config_errors_done(struct config_errors *errors)
{
    strings_free(errors->lines);
    *errors = (struct config_errors){ 0 };
}
