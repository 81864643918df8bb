// SPDX-License-Identifier: LGPL-2.1-or-later
// Reads the INI form through inih, line by checked line; see reader.h. Does not know what a key
// means.
#include "config/reader.h"

#include <ini.h>
#include <stdio.h>
#include <string.h>

#include "core/topic.h"
#include "util/cleanup.h"
#include "util/strings.h"

/* One file being read. inih handles each line before it asks for the next one. */
struct reader {
    struct raw_config *raw;
    struct errors *errors;
    const char *file;
    const char *at, *end;
    unsigned line;
    bool in_section;             // a header was seen, good or bad
    struct raw_section *section; // NULL behind a refused header: its keys are passed over
};

static void free_section(struct raw_section *section)
{
    for (size_t i = 0; i < section->n_values; i++) {
        free(section->values[i].key);
        free(section->values[i].text);
    }
    free(section->values);
    free(section->name);
    free(section);
}
DEFINE_CLEANUP(struct raw_section *, free_section)

void reader_done(struct raw_config *raw)
{
    for (size_t i = 0; i < raw->n_sections; i++)
        free_section(raw->sections[i]);
    free(raw->sections);
    *raw = (struct raw_config){ 0 };
}

static struct raw_section *find_section(const struct raw_config *raw,
                                        const struct schema_section *schema, const char *name)
{
    for (size_t i = 0; i < raw->n_sections; i++) {
        if (raw->sections[i]->schema == schema && strcmp(raw->sections[i]->name, name) == 0)
            return raw->sections[i];
    }
    return NULL;
}

static struct raw_section *add_section(struct raw_config *raw, const struct schema_section *schema,
                                       const char *name)
{
    _cleanup_(free_sectionp) struct raw_section *section = calloc(1, sizeof(*section));
    if (!section)
        return NULL;
    section->schema = schema;
    section->name = strdup(name);
    if (!raw->sections)
        raw->sections = calloc(READER_MAX_SECTIONS, sizeof(struct raw_section *));
    if (!section->name || !raw->sections)
        return NULL;
    raw->sections[raw->n_sections++] = section;
    return TAKE_PTR(section);
}

struct raw_section *reader_section(struct raw_config *raw, const struct schema_section *schema,
                                   const char *name, struct errors *errors)
{
    struct raw_section *section = find_section(raw, schema, name);
    if (section || raw->n_sections == READER_MAX_SECTIONS)
        return section;
    section = add_section(raw, schema, name);
    if (!section)
        errors->out_of_memory = true;
    return section;
}

void reader_add_value(struct raw_section *section, const char *key, const char *text,
                      const char *file, unsigned line, struct errors *errors)
{
    _cleanup_(freep) char *key_copy = strdup(key);
    _cleanup_(freep) char *text_copy = strdup(text);
    struct raw_value *values =
        reallocarray(section->values, section->n_values + 1, sizeof(struct raw_value));
    if (values)
        section->values = values;
    if (!values || !key_copy || !text_copy) {
        errors->out_of_memory = true;
        return;
    }
    values[section->n_values++] =
        (struct raw_value){ TAKE_PTR(key_copy), TAKE_PTR(text_copy), file, line };
}

static struct place here(const struct reader *reader)
{
    return (struct place){ .file = reader->file, .line = reader->line };
}

#define refuse(reader, ...)                                                                        \
    ({                                                                                             \
        struct place place_ = here(reader);                                                        \
        errors_add((reader)->errors, &place_, __VA_ARGS__);                                        \
        false;                                                                                     \
    })

/* --- headers --------------------------------------------------------------------------------- */

static bool refuse_kind(const struct reader *reader, const char *kind)
{
    const char *names[32];
    char list[256], shown[64];
    size_t n = 0;
    for (; schema_sections[n] && n < ELEMENTS(names); n++)
        names[n] = schema_sections[n]->name;
    strings_printable(kind, strlen(kind), shown, sizeof(shown));
    const char *nearest = strings_nearest(kind, names, n);
    if (nearest)
        return refuse(reader, "unknown section '%s' (did you mean '%s'?)", shown, nearest);
    return refuse(reader, "unknown section '%s'; expected one of %s", shown,
                  strings_join(names, n, list, sizeof(list)));
}

static bool check_name(const struct reader *reader, const struct schema_section *schema,
                       const char *name)
{
    char shown[64];
    strings_printable(name, strlen(name), shown, sizeof(shown));
    if (schema->named && !*name)
        return refuse(reader, "[%s] has no name; expected [%s NAME]", schema->name, schema->name);
    if (!schema->named && *name)
        return refuse(reader, "[%s] takes no name, but has '%s'; expected [%s]", schema->name,
                      shown, schema->name);
    if (schema->named && !topic_valid_value(name, strlen(name)))
        return refuse(reader,
                      "'%s' is no name for a section [%s NAME]; expected A-Z a-z 0-9 . _ : @ -",
                      shown, schema->name);
    // The message's own time stands under that key (as does no other name of ours).
    if (strcmp(schema->name, "sensor") == 0 && strcmp(name, "time") == 0)
        return refuse(reader, "a sensor cannot be named 'time', which is kept for the time of a "
                              "sample; expected another name");
    return true;
}

static bool open_section(struct reader *reader, const struct schema_section *schema,
                         const char *name)
{
    struct raw_section *section = reader_section(reader->raw, schema, name, reader->errors);
    if (!section)
        return reader->errors->out_of_memory
                   ? false
                   : refuse(reader, "there are more than %d sections; expected fewer",
                            READER_MAX_SECTIONS);
    reader->in_section = true;
    reader->section = section;
    if (section->last_file == reader->file) {
        const char *space = schema->named ? " " : "";
        refuse(reader, "duplicate name: [%s%s%s] stands in line %u already; expected it once",
               schema->name, space, name, section->last_line);
        return true; // its keys are checked all the same
    }
    section->last_file = reader->file;
    section->last_line = reader->line;
    if (!section->file) {
        section->file = reader->file;
        section->line = reader->line;
    }
    return true;
}

/* line begins with '['; trailing white space is gone. */
static bool take_header(struct reader *reader, const char *line)
{
    size_t length = strcspn(line + 1, "]");
    if (line[1 + length] == '\0')
        return refuse(reader, "the section's ']' is missing; expected [SECTION] or [SECTION NAME]");
    if (line[1 + length + 1] != '\0')
        return refuse(reader, "there is text behind the section's ']'; expected a line of its own");
    if (length > READER_MAX_NAME)
        return refuse(reader, "the section's name has %zu bytes; expected at most %d", length,
                      READER_MAX_NAME);
    char kind[READER_MAX_NAME + 1];
    memcpy(kind, line + 1, length);
    kind[length] = '\0';
    size_t kind_length = strcspn(kind, " \t");
    const char *name = kind + kind_length + strspn(kind + kind_length, " \t");
    kind[kind_length] = '\0';
    const struct schema_section *schema = schema_find_section(kind);
    if (!schema)
        return refuse_kind(reader, kind);
    return check_name(reader, schema, name) && open_section(reader, schema, name);
}

/* --- keys ------------------------------------------------------------------------------------ */

/* inih ends a value before a ';' that white space precedes. */
static bool has_inline_comment(const char *value)
{
    for (const char *at = strchr(value, ';'); at; at = strchr(at + 1, ';')) {
        if (at == value || at[-1] == ' ' || at[-1] == '\t')
            return true;
    }
    return false;
}

static bool check_key(const struct reader *reader, const char *key, size_t length)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    char shown[64];
    if (length == 0)
        return refuse(reader, "there is no key before the '='; expected KEY = VALUE");
    strings_printable(key, length, shown, sizeof(shown));
    if (length > READER_MAX_NAME)
        return refuse(reader, "the key '%s' has %zu bytes; expected at most %d", shown, length,
                      READER_MAX_NAME);
    if (strspn(key, letters) < length) // inih also takes ':' for '='
        return refuse(reader, "'%s' is not a key; expected KEY = VALUE with letters, digits and _",
                      shown);
    return true;
}

static bool check_repeated(const struct reader *reader, const char *key)
{
    const struct raw_section *section = reader->section;
    struct place place = { reader->file, reader->line, section->schema->name, section->name, key };
    for (size_t i = section->n_values; i-- > 0;) {
        const struct raw_value *value = &section->values[i];
        if (value->file == reader->file && strcmp(value->key, key) == 0) {
            errors_add(reader->errors, &place,
                       "repeated key, already set in line %u; expected it once", value->line);
            return false;
        }
    }
    if (section->n_values >= READER_MAX_VALUES) {
        errors_add(reader->errors, &place, "the section has more than %d keys; expected fewer",
                   READER_MAX_VALUES);
        return false;
    }
    return true;
}

static bool take_key(const struct reader *reader, const char *line)
{
    size_t before = strcspn(line, "=");
    if (line[before] == '\0')
        return refuse(reader, "there is no '=' in the line; expected KEY = VALUE");
    size_t length = before;
    while (length > 0 && (line[length - 1] == ' ' || line[length - 1] == '\t'))
        length--;
    if (!check_key(reader, line, length))
        return false;
    if (!reader->in_section)
        return refuse(reader, "the key '%.*s' stands outside a section; expected a [SECTION] first",
                      (int)length, line);
    if (!reader->section)
        return false;
    char key[READER_MAX_NAME + 1];
    memcpy(key, line, length);
    key[length] = '\0';
    struct place place = here(reader);
    place.kind = reader->section->schema->name;
    place.name = reader->section->name;
    place.key = key;
    const char *value = line + before + 1;
    value += strspn(value, " \t");
    if (*value == '\0') {
        errors_add(reader->errors, &place,
                   "there is no value behind the '='; expected one, or no "
                   "such line");
        return false;
    }
    if (has_inline_comment(value)) {
        errors_add(reader->errors, &place,
                   "a ';' at the value's beginning or after a space would start a comment; "
                   "expected comments on a line of their own");
        return false;
    }
    return check_repeated(reader, key);
}

/* --- lines ----------------------------------------------------------------------------------- */

static bool check_bytes(const struct reader *reader, const char *line, size_t length)
{
    if (!strings_is_utf8(line, length))
        return refuse(reader, "the line is not valid UTF-8; expected text in UTF-8");
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)line[i];
        if ((byte < 0x20 && byte != '\t') || byte == 0x7f)
            return refuse(reader,
                          "the line holds the control character 0x%02x; expected text in UTF-8",
                          byte);
    }
    return true;
}

/*
 * Whether inih may see this line: a good header or key. length counts what lies behind a NUL byte
 * too; max_length is inih's own limit.
 */
static bool take_line(struct reader *reader, const char *line, size_t length, size_t max_length)
{
    size_t indent = strspn(line, " \t");
    if (strlen(line) < length)
        return refuse(reader, "the line holds a NUL byte; expected text in UTF-8");
    if (!check_bytes(reader, line, length))
        return false;
    if (strchr("#;", line[indent])) // a comment or, at the NUL, nothing
        return false;
    if (length > max_length)
        return refuse(reader, "the line has %zu bytes; expected at most %zu", length, max_length);
    if (indent > 0)
        return refuse(reader, "the line is indented; expected it to begin at the left margin");
    return line[0] == '[' ? take_header(reader, line) : take_key(reader, line);
}

/* Behind a header that was refused, keys belong to no section rather than to the one before. */
static void leave_section(struct reader *reader)
{
    reader->in_section = true;
    reader->section = NULL;
    reader->raw->incomplete = true;
}

/* inih's reader: the next line, or an empty one instead of a line that is not for inih. */
static char *next_line(char *out, int size, void *stream)
{
    static const char byte_order_mark[] = { '\xef', '\xbb', '\xbf' };
    struct reader *reader = stream;
    if (reader->at == reader->end || size <= 2)
        return NULL;
    const char *newline = memchr(reader->at, '\n', (size_t)(reader->end - reader->at));
    const char *begin = reader->at, *end = newline ? newline : reader->end;
    reader->at = newline ? newline + 1 : reader->end;
    reader->line++;
    if (reader->line == 1 && end - begin >= 3 && memcmp(begin, byte_order_mark, 3) == 0)
        begin += 3;
    if (end > begin && end[-1] == '\r')
        end--;
    while (end > begin && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *out = '\0';
    size_t length = (size_t)(end - begin);
    _cleanup_(freep) char *line = strndup(begin, length);
    if (!line)
        reader->errors->out_of_memory = true;
    else if (take_line(reader, line, length, (size_t)size - 2))
        snprintf(out, (size_t)size, "%s\n",
                 line); // inih 58 and later miss the newline of a full one
    else if (line[strspn(line, " \t")] == '[')
        leave_section(reader);
    return out;
}

/* inih's handler. The section is the reader's, whose header inih has just seen. */
static int handle(void *user, const char *section, const char *key, const char *text)
{
    struct reader *reader = user;
    (void)section;
    reader_add_value(reader->section, key, text, reader->file, reader->line, reader->errors);
    return 1;
}

void reader_read(struct raw_config *raw, const char *file, const char *bytes, size_t length,
                 struct errors *errors)
{
    struct reader reader = {
        .raw = raw, .errors = errors, .file = file, .at = bytes, .end = bytes + length
    };
    if (length > READER_MAX_FILE) {
        errors_add(errors, &(struct place){ .file = file },
                   "the file is larger than 1 MiB; expected less");
        raw->incomplete = true;
        return;
    }
    int r = ini_parse_stream(next_line, &reader, handle, &reader);
    if (r != 0) { // only lines that inih takes were let through: never, but never ignored either
        struct place place = { .file = file, .line = r > 0 ? (unsigned)r : reader.line };
        errors_add(errors, &place, "inih does not take this line");
    }
}
