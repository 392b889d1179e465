"""Tables of a page that would have too many rows: the page shows the first ones and names the file of all."""

# Rows of a table that a page shows. Each takes some 200 bytes, and browsers slow down with many more.
ROWS = 1000


def first_rows(rows, file, kept=()):
    """What the macro ``more_rows`` says of a table: {"rows", "shown", "count", "file"}.

    ``rows``: list of all rows, the most important ones first; ``file``: where all of them are, a path in
    the experiment's folder; ``kept``: rows that stand below in any case, such as averages.
    """
    shown = rows[:ROWS]
    return {"rows": [*shown, *kept], "shown": len(shown), "count": len(rows), "file": file}
