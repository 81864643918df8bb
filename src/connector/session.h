// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The connection from CONNECT to its end: serves the network and the daemon.
 */
#pragma once

#include "connector/client.h"

/*
 * Until the daemon says stop: 0. -EIO: the connection has failed, client->error says why and
 * *ret_failure what could mend it.
 */
int session_run(struct client *client, enum frame_failure *ret_failure);
