// SPDX-License-Identifier: LGPL-2.1-or-later
// Arguments and exit codes of nightlightd. Everything else is the library's.
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config/config.h"
#include "daemon.h"
#include "drivers/driver.h"
#include "io/worker.h"
#include "util/clock.h"

enum {
    EXIT_OTHER = 1,
    EXIT_CONFIG = 78, // EX_CONFIG of sysexits.h; the unit does not restart on it
};

static const uint64_t orphan_limit_usec = 200 * USEC_PER_MSEC;

static void print_help(void)
{
    printf("Usage: nightlightd [OPTION...]\n"
           "Telemetry and commands for devices, over MQTT.\n"
           "\n"
           "  -c, --config FILE   read FILE, and conf.d/*.conf beside it, instead of\n"
           "                      %s/nightlightd.conf\n"
           "  -r, --role ROLE     device, server or combined, whatever the file says\n"
           "      --check-config  check the configuration and exit: 0 if it is good, else 78\n"
           "      --print-config  print every setting in force, and where it comes from\n"
           "  -V, --version       print the version\n"
           "  -h, --help          print this\n"
           "\n"
           "Stops on SIGTERM, reads its configuration again on SIGHUP.\n"
           "See nightlightd(8) and nightlightd.conf(5).\n",
           NIGHTLIGHT_SYSCONFDIR);
}

static int load(const struct config_sources *sources, bool check_only, struct config **ret_config)
{
    struct config_errors errors = { 0 };
    int r = config_load(sources, ret_config, &errors);
    if (r >= 0)
        return 0;
    if (errors.n_lines == 0) {
        fprintf(stderr, "nightlightd: cannot load the configuration: %s\n", strerror(-r));
        r = EXIT_OTHER;
    } else if (check_only) {
        for (size_t i = 0; i < errors.n_lines; i++)
            fprintf(stderr, "%s\n", errors.lines[i]);
        r = EXIT_CONFIG;
    } else {
        daemon_log_errors(&errors, "nightlightd does not start");
        r = EXIT_CONFIG;
    }
    config_errors_done(&errors);
    return r;
}

static void print_checked(const struct config *config)
{
    for (size_t i = 0; config->files && config->files[i]; i++)
        printf("%s: OK\n", config->files[i]);
    config_print_notes(config, stdout);
}

int main(int argc, char **argv)
{
    enum { OPTION_CHECK = 256, OPTION_PRINT };
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' },
        { "role", required_argument, NULL, 'r' },
        { "check-config", no_argument, NULL, OPTION_CHECK },
        { "print-config", no_argument, NULL, OPTION_PRINT },
        { "version", no_argument, NULL, 'V' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    struct config_sources sources = { 0 };
    bool check = false, print = false;
    for (int option; (option = getopt_long(argc, argv, "c:r:Vh", options, NULL)) >= 0;) {
        switch (option) {
        case 'c':
            sources.file = optarg;
            break;
        case 'r':
            sources.role = optarg;
            break;
        case OPTION_CHECK:
            check = true;
            break;
        case OPTION_PRINT:
            print = true;
            break;
        case 'V':
            puts("nightlightd " NIGHTLIGHT_VERSION);
            return 0;
        case 'h':
            print_help();
            return 0;
        default:
            fputs("Try 'nightlightd --help'.\n", stderr);
            return EXIT_OTHER;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "nightlightd: unexpected argument '%s'\nTry 'nightlightd --help'.\n",
                argv[optind]);
        return EXIT_OTHER;
    }
    // One heap for all threads: the workers allocate little, and each arena costs memory.
    mallopt(M_ARENA_MAX, 1);
    signal(SIGPIPE, SIG_IGN);
    driver_add_to(&sources);

    struct config *config = NULL;
    int r = load(&sources, check || print, &config);
    if (r == 0 && print)
        config_print(config, stdout);
    else if (r == 0 && check)
        print_checked(config);
    else if (r == 0)
        r = daemon_run(&sources, config) < 0 ? EXIT_OTHER : 0;
    config_unref(config);
    if (worker_wait_for_orphans(orphan_limit_usec) > 0) {
        fflush(NULL);
        _exit(r); // a name look-up still hangs: see io/worker.h
    }
    return r;
}
