"""The command ``mmhealth diagnose``.

Keys of its JSON, which never holds NaN:

============ ======================================================================================
schema       1; raised when a key is removed or changes its meaning
mmhealth     version
run          id, name, path
outcome      diagnosed, undetermined, healthy, insufficient data
why          the same in a sentence
findings     failure modes that the log speaks for, causes before what follows from them: mode,
             about, confidence (0 to 1), strength (its statistic over its threshold), since (a step,
             or null), evidence, rivals (by mode, what the log says of it), follows_from (a mode or
             null), todo, import, experimental
borderline   the same of modes whose sign stays below its threshold, and not by much
ruled_out    modes that the log speaks against
insufficient modes that could not be judged, with the reason
============ ======================================================================================
"""

from pathlib import Path
from typing import Annotated

import typer

from mmhealth.cli.options import RunPath, write


def diagnose(
    run: RunPath,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Name the failure modes of a run, with evidence, rivals, and what to do (docs/diagnosis.md).

    Exit code 3: insufficient data.
    """
    from rich.console import Console

    from mmhealth.health.diagnosis import diagnose as find
    from mmhealth.report.diagnosis import diagnosis_as_dict, print_diagnosis
    from mmhealth.report.json_report import dump_json
    from mmhealth.runlog import open_run

    opened = open_run(run)
    found = find(opened)
    if json:
        write(Path("-"), dump_json(diagnosis_as_dict(found, opened)), "--json")
    else:
        print_diagnosis(found, opened, Console())
    if found.outcome == "insufficient data":
        raise typer.Exit(3)
