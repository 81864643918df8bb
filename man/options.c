// SPDX-License-Identifier: LGPL-2.1-or-later
// Prints the configuration's table: as the middle of nightlightd.conf(5) (roff, man(7)), or with
// --plain one line a key, which the tests hold against the sample configuration. Run when the table
// changes (scripts/update-man), never by the build, which may be for another machine.
#include <stdio.h>
#include <string.h>

#include "config/schema.h"
#include "drivers/driver.h"
#include "util/cleanup.h"

/* Writes text with what roff would read as its own escaped. */
static void put(const char *text)
{
    for (; *text; text++) {
        if (*text == '-')
            fputs("\\-", stdout);
        else if (*text == '\\')
            fputs("\\e", stdout);
        else
            putchar(*text);
    }
}

static void print_option(const struct schema_option *option)
{
    char expects[256];
    printf(".TP\n.B ");
    put(option->key);
    putchar('\n');
    put(option->help);
    putchar('\n');
    printf(".br\n");
    put(schema_describe(option, expects, sizeof(expects)));
    if (option->required)
        printf("; required");
    else if (option->def && option->def[0]) {
        printf("; default ");
        printf("\\fI");
        put(option->def);
        printf("\\fR");
    }
    if (option->unit)
        printf(" (%s)", option->unit);
    puts(".");
}

static void print_options(const struct schema_option *options, size_t n)
{
    for (size_t i = 0; i < n; i++)
        print_option(&options[i]);
}

static void print_driver(const struct driver *driver)
{
    printf(".SS driver = %s\n", driver->name);
    put(driver->help);
    putchar('\n');
    print_options(driver->options, driver->n_options);
}

static void print_driver_keys(const char *kind, const struct driver *driver)
{
    for (size_t i = 0; i < driver->n_options; i++)
        printf("%s/%s.%s\n", kind, driver->name, driver->options[i].key);
}

static void print_manual(void)
{
    for (size_t i = 0; schema_sections[i]; i++) {
        const struct schema_section *section = schema_sections[i];
        printf(".SS [%s%s]\n", section->name, section->named ? " \\fINAME\\fP" : "");
        put(section->help);
        putchar('\n');
        print_options(section->options, section->n_options);
    }
    puts(".SH SENSOR DRIVERS");
    for (size_t i = 0; sensor_drivers[i]; i++)
        print_driver(&sensor_drivers[i]->base);
    puts(".SH ACTUATOR DRIVERS");
    for (size_t i = 0; actuator_drivers[i]; i++)
        print_driver(&actuator_drivers[i]->base);
}

static void print_plain(void)
{
    for (size_t i = 0; schema_sections[i]; i++) {
        for (size_t k = 0; k < schema_sections[i]->n_options; k++) {
            const struct schema_option *option = &schema_sections[i]->options[k];
            printf("%s.%s=%s\n", schema_sections[i]->name, option->key,
                   option->def ? option->def : "");
        }
    }
    for (size_t i = 0; sensor_drivers[i]; i++)
        print_driver_keys("sensor", &sensor_drivers[i]->base);
    for (size_t i = 0; actuator_drivers[i]; i++)
        print_driver_keys("actuator", &actuator_drivers[i]->base);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--plain") == 0)
        print_plain();
    else
        print_manual();
    return 0;
}
