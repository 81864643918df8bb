# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the integration tests stand on: subprocesses, peers and waiting, each with a deadline."""
