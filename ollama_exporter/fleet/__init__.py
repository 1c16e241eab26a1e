# SPDX-License-Identifier: Apache-2.0
"""Many servers in one process: their section, their files, their connections, their queue.

target_section.py parses one target, target_files.py follows a folder of them. allow_list.py decides
which addresses a free probe may reach, checked_address.py resolves them. target_client.py asks a
server, poll_queue.py says when.
"""
