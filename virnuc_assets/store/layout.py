"""Where everything of a deployment lies, below one root folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """Paths below the store's root. Pure: asking for a path creates nothing."""

    root: Path

    @property
    def inbox(self) -> Path:
        """Folder a lab drops FASTA files into."""
        return self.root / "inbox"

    @property
    def samples(self) -> Path:
        """One folder a sample: its registration, index and embeddings."""
        return self.root / "samples"

    @property
    def heads(self) -> Path:
        """Imported or trained classifier heads, one folder each."""
        return self.root / "heads"

    def training(self, name: str) -> Path:
        """Where a head's training samples lie, laid out like a store (folder)."""
        return self.root / "training" / name

    def sample(self, name: str) -> Path:
        """A sample's registration: which file it was made from."""
        return self.samples / name / "sample.json"

    def index(self, name: str) -> Path:
        """A sample's sequence index (folder)."""
        return self.samples / name / "index"

    def embeddings(self, name: str, encoder: str) -> Path:
        """A sample's shards of one encoder (folder)."""
        return self.samples / name / "embeddings" / encoder

    def predictions(self, name: str) -> Path:
        """A sample's results (folder)."""
        return self.root / "predictions" / name

    def report(self, name: str) -> Path:
        """A sample's report (folder)."""
        return self.root / "reports" / name

    @property
    def cohort(self) -> Path:
        """The summary of all samples (folder)."""
        return self.root / "cohort"
