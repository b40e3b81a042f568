"""A study on the terminal: a table for each claim, in 80 columns."""

from collections.abc import Collection, Mapping

from rich.console import Console

from stoker.flows.report.studies import data_text, machine_text, row_notes, row_texts, score_name, verdicts_text
from stoker.flows.report.terminal import Sheet
from stoker.storage.versions.measured.studies import Study

_STYLES: Mapping[str, str] = {
    "held": "green",
    "not held": "red",
    "not applicable": "yellow",
    "unfinished": "yellow",
}


def print_study(study: Study, console: Console, *, only: Collection[str] = ()) -> None:
    """A table for each claim, and what became of it; ``only``: claims and rows of these names, if there are some."""
    sheet = Sheet(console)
    sheet.title(f"{study.corpus}@{study.version}, {study.kind} study", f"{data_text(study)}; {machine_text(study)}")
    rows = {row["name"]: row for row in study.rows}
    heads = (score_name(study), "CPU-s>", "test>", "weights>", "mults>")
    for claim in study.claims:
        is_wanted = not only or claim["name"] in only
        found = [rows[name] for name in claim["rows"] if name in rows and (is_wanted or name in only)]
        if not (is_wanted or found):
            continue
        sheet.heading(claim["title"])
        if found:
            sheet.table([claim["name"], f"{heads[0]}>", *heads[1:]], [row_texts(study, row) for row in found])
        for note in (note for row in found for note in row_notes(study, row)):
            sheet.mark(f"  {note}", "yellow")
        if is_wanted:  # of one whose rows were not all wanted there is nothing to say
            sheet.mark(
                f"  {claim['verdict']}{': ' * bool(claim['reason'])}{claim['reason']}", _STYLES[claim["verdict"]]
            )
    sheet.heading(verdicts_text(study))
