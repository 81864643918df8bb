// SPDX-License-Identifier: LGPL-2.1-or-later
/* The device's own name: specifiers in `id` and `group`, and the default id. Internal to config/.
 */
#pragma once

#include "util/why.h"

/*
 * Replaces %H (host name), %m (machine id, 32 hexadecimal digits) and %% in text. The result is
 * checked by topic_valid_value(). 0 and a new *ret_name, -EINVAL with why, -ENOMEM.
 */
int identity_expand(const char *text, char **ret_name, struct why *why);

/*
 * Host name, hyphen and 8 hexadecimal digits that belong to this machine and this program
 * (sd_id128_get_machine_app_specific(3)). Errors as above; -EINVAL also without a machine id.
 */
int identity_default(char **ret_name, struct why *why);
