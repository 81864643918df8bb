# SPDX-License-Identifier: LGPL-2.1-or-later
"""The virtual machine of the tests: how it is made, talked to, and the hardware that it simulates."""
