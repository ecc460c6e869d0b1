"""A conformance statement as one page of HTML that also prints well."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from dicomnode.services.conformance.document import Cell, Section, Statement, Table

_DEEPEST = 6
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2329; max-width: 62rem; margin: 2.5rem auto; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.3rem; margin-top: 2.75rem; padding-top: 1rem; border-top: 1px solid #d5dade; }
h3, h4, h5, h6 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p { max-width: 46rem; }
.table { overflow-x: auto; margin: 1rem 0 1.75rem; }
table { border-collapse: collapse; font-size: .85rem; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem; border-bottom: 1px solid #e3e7ea; }
th { background: #f3f5f7; }
td { overflow-wrap: break-word; min-width: 4rem; }
@media print {
  @page { margin: 18mm; }
  body { font-size: 10pt; max-width: none; margin: 0; }
  h2, h3, h4, h5, h6 { break-after: avoid; }
  table { font-size: 8pt; }
  td { overflow-wrap: anywhere; }
  thead { display: table-header-group; }
  tr { break-inside: avoid; }
  .table { overflow: visible; }
}
"""


def to_html(statement: Statement) -> str:
    """The whole page, without anything from elsewhere; every value is escaped."""
    title = escape(statement.title)
    body = "\n".join(line for number, section in statement.numbered() for line in _section(number, section))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        f"{body}\n</body>\n</html>\n"
    )


def _section(number: str, section: Section) -> Iterator[str]:
    level = min(number.count(".") + 2, _DEEPEST)
    yield f'<h{level} id="section-{number}">{number} {escape(section.title)}</h{level}>'
    for paragraph in section.text:
        yield f"<p>{escape(paragraph)}</p>"
    for table in section.tables:
        yield _table(table)


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    rows = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    return (
        f'<div class="table"><table>\n<caption>{escape(table.title)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _cell(cell: Cell) -> str:
    return f"<td>{'<br>'.join(map(escape, (cell,) if isinstance(cell, str) else cell))}</td>"
