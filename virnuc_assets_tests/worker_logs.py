"""What workers said in the log files that they leave beside a run's record."""


def encoders_loaded(layout):
    """How often workers loaded an encoder, by their own account."""
    logs = layout.root.rglob("worker-*.log")
    return sum(path.read_text().count("loaded EncoderDescription") for path in logs)
