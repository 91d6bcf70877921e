from rich.console import Console

from mnv2_tasks.drawing.table import Table

INFER = ["contestant", "p50, ms", "p95, ms", "of the first's time", "memory, MB", "of matmul peak"]


def test_a_table_fits_80_columns_and_cuts_no_name(capsys):
    rows = [
        ["torchvision ssdlite320_mobilenet_v3_large", 15234.3, 16234.2, 1.0, 12345, None],
        ["ours, eager, freed memory kept", 15.3, 16.2, 1.0, 145, "79%"],
        ["executorch int8", "RuntimeError: the library cannot"],
    ]
    Table("one image", INFER, rows).show(Console(width=80))
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    words = " ".join([*INFER, *(row[0] for row in rows), rows[-1][1], "15,234"]).split()
    assert set(words) <= set(told.split())
