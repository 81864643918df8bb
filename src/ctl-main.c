// SPDX-License-Identifier: LGPL-2.1-or-later
// nightlightctl. Everything is the library's: see src/ctl.
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "io/worker.h"
#include "util/clock.h"

static const uint64_t orphan_limit_usec = 200 * USEC_PER_MSEC;

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    int code = ctl_run(argc, argv);
    if (worker_wait_for_orphans(orphan_limit_usec) > 0) {
        fflush(NULL);
        _exit(code); // a name look-up still hangs: see io/worker.h
    }
    return code;
}
