"""`virnuc demo`."""

from __future__ import annotations

from virnuc_assets import console
from virnuc_assets.instance import open_instance
from virnuc_assets.settings import from_environment
from virnuc_assets.store.layout import Layout


def demo() -> None:
    """Take the bundled sample through the assets, show its calls, and how many are right."""
    from virnuc_assets.demo.compare import calls_by_truth
    from virnuc_assets.demo.sample import FASTA
    from virnuc_assets.materialise import materialise_sample

    settings = from_environment()
    with open_instance() as instance:
        materialise_sample(settings, "demo", FASTA, instance)
    layout = Layout(settings.store)
    console.print_calls(layout.predictions("demo"), "demo sample")
    counts = ("n", "right", "wrong", "no_call")
    console.table(
        "these calls and the truth (so few records do not measure a model)",
        ("records", "truth", "n", "right", "wrong", "no call"),
        (
            (row["kind"], row["label"], *(str(row[name]) for name in counts))
            for row in calls_by_truth(layout.predictions("demo")).iter_rows(named=True)
        ),
        right=("n", "right", "wrong", "no call"),
    )
    console.files_made(
        {
            "calls and scores": layout.predictions("demo"),
            "report": layout.report("demo"),
            "index and embeddings": layout.samples / "demo",
        }
    )
    console.result("The UI: make ui, then http://127.0.0.1:3000")
