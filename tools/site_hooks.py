# SPDX-License-Identifier: Apache-2.0
"""What mkdocs changes in the pages that it has built (`hooks` in mkdocs.yml).

For those who hear a page: the theme does not name its search, and Markdown has a heading for each
column of a table, also for one that needs none.
"""


def on_post_page(output: str, **_: object) -> str:
    """Return a page as it can be heard."""
    return _mended(output)


def on_post_template(output_content: str, **_: object) -> str:
    """Return a page that comes from no Markdown, such as 404.html, as it can be heard."""
    return _mended(output_content)


def _mended(page: str) -> str:
    named = page.replace('role="dialog"', 'role="dialog" aria-label="Search"')
    return named.replace("<th></th>", "<td></td>")
