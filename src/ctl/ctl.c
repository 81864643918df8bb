// SPDX-License-Identifier: LGPL-2.1-or-later
// nightlightctl: finds the command that is meant; see ctl.h.
#include "ctl/ctl.h"

#include <stdio.h>
#include <string.h>

#include "drivers/driver.h"
#include "util/cleanup.h"
#include "util/strings.h"

static const struct ctl_command *const commands[] = {
    &ctl_command_command,
    &ctl_command_status,
    &ctl_command_rules,
};

int ctl_load(const char *path, const char *role, struct config **ret_config)
{
    struct config_sources sources = { .file = path, .role = role };
    struct config_errors errors = { 0 };
    driver_add_to(&sources);
    int r = config_load(&sources, ret_config, &errors);
    if (r < 0 && errors.n_lines == 0)
        fprintf(stderr, "nightlightctl: cannot load the configuration: %s\n", strerror(-r));
    for (size_t i = 0; i < errors.n_lines; i++)
        fprintf(stderr, "%s\n", errors.lines[i]);
    config_errors_done(&errors);
    return r;
}

static void print_help(void)
{
    fputs("Usage: nightlightctl COMMAND ...\n"
          "Speaks with nightlightd, and looks at its configuration.\n"
          "\n",
          stdout);
    for (size_t i = 0; i < ELEMENTS(commands); i++)
        fputs(commands[i]->help, stdout);
    fputs("\n"
          "  -V, --version       print the version\n"
          "  -h, --help          print this\n"
          "\n"
          "See nightlightctl(1).\n",
          stdout);
}

static int refuse(const char *word)
{
    const char *names[ELEMENTS(commands)];
    for (size_t i = 0; i < ELEMENTS(commands); i++)
        names[i] = commands[i]->name;
    const char *nearest = strings_nearest(word, names, ELEMENTS(names));
    fprintf(stderr, "nightlightctl: there is no command '%s'", word);
    if (nearest)
        fprintf(stderr, ", did you mean '%s'?", nearest);
    fputs("\nTry 'nightlightctl --help'.\n", stderr);
    return CTL_FAILED;
}

int ctl_run(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "--help";
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        puts("nightlightctl " NIGHTLIGHT_VERSION);
        return CTL_OK;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        print_help();
        return argc > 1 ? CTL_OK : CTL_FAILED;
    }
    for (size_t i = 0; i < ELEMENTS(commands); i++) {
        if (strcmp(commands[i]->name, word) == 0)
            return commands[i]->run(argc - 1, argv + 1);
    }
    return refuse(word);
}
