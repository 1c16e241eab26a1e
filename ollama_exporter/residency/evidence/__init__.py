# SPDX-License-Identifier: Apache-2.0
"""What each source says of one unload: requests, processes, the log."""
