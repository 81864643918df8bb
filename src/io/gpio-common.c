// SPDX-License-Identifier: LGPL-2.1-or-later
// Finds a GPIO line by what the user wrote, and has the words for what goes wrong. It knows nothing
// of libgpiod's two APIs but what gpio-common.h names.
#include "io/gpio-common.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "util/parse.h"

enum { KERNEL_ENOTSUPP = 524 }; // the kernel's own errno, which some pin controllers let slip out
enum { PATH_SIZE = 256, LIST_SIZE = 160 };

struct search {
    const char *label; // NULL: every chip that is tried is the right one
    const char *line;
    bool by_offset; // an offset will do: it means nothing without a chip
    bool chip_seen; // the right chip was there; did it have the line?
    int open_error; // of the last chip that could not be opened, and its path
    char open_path[PATH_SIZE];
    struct gpiod_chip *chip; // the outcome
    struct gpio_place place;
};

/* Goes on with the next chip on 0, and stops with what it is otherwise. */
typedef int (*chip_fn)(const char *path, void *userdata);

static bool is_number(const char *text)
{
    return text[0] != '\0' && text[strspn(text, "0123456789")] == '\0';
}

static bool is_chip_name(const char *name)
{
    static const char prefix[] = "gpiochip";
    return strncmp(name, prefix, strlen(prefix)) == 0 && is_number(name + strlen(prefix));
}

/* Leaves out links: udev adds gpiochip4 on a Raspberry Pi 5 for the sake of old programs. */
static int is_chip_entry(const struct dirent *entry)
{
    return entry->d_type != DT_LNK && is_chip_name(entry->d_name);
}

static int for_each_chip(chip_fn visit, void *userdata)
{
    struct dirent **entries = NULL;
    int n_entries = scandir("/dev", &entries, is_chip_entry, versionsort);
    if (n_entries < 0)
        return -errno;
    int r = 0;
    for (int i = 0; i < n_entries; i++) {
        char path[PATH_SIZE];
        snprintf(path, sizeof(path), "/dev/%.200s", entries[i]->d_name);
        if (r == 0)
            r = visit(path, userdata);
        free(entries[i]);
    }
    free(entries);
    return r;
}

static int find_line(const struct search *search, struct gpiod_chip *chip, struct gpio_place *place)
{
    int r = gpio_chip_find_line(chip, search->line, &place->offset);
    if (r != -ENOENT || !search->by_offset || !is_number(search->line))
        return r;
    int64_t offset;
    if (parse_int(search->line, &offset) < 0 || offset >= place->chip.n_lines)
        return -ENOENT;
    place->offset = (unsigned)offset;
    return 0;
}

/* A chip_fn: 1 when the chip has the line. */
static int try_chip(const char *path, void *userdata)
{
    struct search *search = userdata;
    _cleanup_(gpiod_chip_closep) struct gpiod_chip *chip = gpiod_chip_open(path);
    struct gpio_place place = { 0 };
    int r = chip ? gpio_chip_describe(chip, &place.chip) : -errno;
    if (r < 0) {
        search->open_error = -r;
        snprintf(search->open_path, sizeof(search->open_path), "%s", path);
        return 0;
    }
    if (search->label && strcmp(search->label, place.chip.label) != 0)
        return 0;
    search->chip_seen = true;
    r = find_line(search, chip, &place);
    if (r < 0)
        return r == -ENOENT ? 0 : r;
    search->chip = TAKE_PTR(chip);
    search->place = place;
    return 1;
}

/* A chip_fn that adds "gpiochip0 (pinctrl-bcm2711)" to a list of LIST_SIZE bytes. */
static int list_chip(const char *path, void *userdata)
{
    char *list = userdata;
    _cleanup_(gpiod_chip_closep) struct gpiod_chip *chip = gpiod_chip_open(path);
    struct gpio_chip description;
    if (!chip || gpio_chip_describe(chip, &description) < 0)
        return 0;
    size_t length = strlen(list);
    snprintf(list + length, LIST_SIZE - length, "%s%s (%s)", length > 0 ? ", " : "",
             description.name, description.label);
    return 0;
}

/* Whether opening a chip with this error means that there is none. */
static bool is_absence(int error)
{
    return error == ENOENT || error == ENOTDIR || error == ENODEV || error == ENXIO ||
           error == ENOTTY;
}

/* chip is what the user wrote, NULL for nothing. */
static int explain_not_found(const struct search *search, const char *chip, struct why *why)
{
    if (search->chip_seen && chip)
        return why_set(why, ENOENT, "the GPIO chip '%s' has no line '%s'", chip, search->line);
    if (search->open_error != 0 && !is_absence(search->open_error))
        return why_set(why, search->open_error == EPERM ? EACCES : search->open_error, "%s: %s",
                       search->open_path, strerror(search->open_error));
    if (search->chip_seen)
        return why_set(why, ENOENT, "no GPIO chip has a line named '%s'%s", search->line,
                       is_number(search->line) ? " (an offset needs a chip)" : "");
    char list[LIST_SIZE] = "";
    for_each_chip(list_chip, list);
    if (!chip || list[0] == '\0')
        return why_set(why, ENODEV, "there is no GPIO chip at all");
    return why_set(why, ENODEV, "there is no GPIO chip '%s', but %s", chip, list);
}

/* What makes a name, a number or a path the path of a chip; NULL if it can only be a label. */
static const char *path_prefix(const char *chip)
{
    if (chip[0] == '/')
        return "";
    if (is_chip_name(chip))
        return "/dev/";
    return is_number(chip) ? "/dev/gpiochip" : NULL;
}

int gpio_common_find(const char *chip, const char *line, struct gpiod_chip **ret_chip,
                     struct gpio_place *ret_place, struct why *why)
{
    if (chip && chip[0] == '\0')
        chip = NULL;
    const char *prefix = chip ? path_prefix(chip) : NULL;
    struct search search = { .line = line, .by_offset = chip };
    int r;
    if (prefix) {
        char path[PATH_SIZE];
        snprintf(path, sizeof(path), "%s%.200s", prefix, chip);
        r = try_chip(path, &search);
    } else {
        search.label = chip;
        r = for_each_chip(try_chip, &search);
    }
    if (r < 0)
        return why_set(why, -r, "cannot look for the GPIO line '%s': %s", line, strerror(-r));
    if (r == 0)
        return explain_not_found(&search, chip, why);
    *ret_chip = search.chip;
    *ret_place = search.place;
    return 0;
}

const char *gpio_common_extras(const struct gpio_request *request)
{
    bool bias = request->bias != GPIO_BIAS_AS_IS;
    bool edge = request->edge != GPIO_EDGE_NONE;
    return bias && edge ? "the bias or the edge" : bias ? "the bias" : edge ? "the edge" : NULL;
}

int gpio_common_refused(int error, const char *line, const char *extras,
                        const struct gpio_place *place, const char *consumer, struct why *why)
{
    char where[128];
    snprintf(where, sizeof(where), "line %.32s of %s (%s)", line, place->chip.name,
             place->chip.label);
    if (error == EBUSY)
        return why_set(why, EBUSY, "%s is in use by %s", where,
                       consumer ? consumer : "the kernel or a program without a name");
    if (error == EACCES || error == EPERM)
        return why_set(why, EACCES, "%s: no permission", where);
    // Without an interrupt the kernel answers ENXIO or ENODEV, as if the chip had gone; if it has,
    // the next attempt does not find it.
    bool refusal = error == EINVAL || error == ENXIO || error == ENODEV || error == EOPNOTSUPP ||
                   error == KERNEL_ENOTSUPP;
    if (extras && refusal)
        return why_set(why, EINVAL, "%s refuses %s that was asked for", where, extras);
    return why_set(why, error, "%s: %s", where, strerror(error));
}

int gpio_common_unblock(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}
