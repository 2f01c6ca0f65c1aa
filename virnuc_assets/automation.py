"""Declarative automation: when an asset is materialised without a hand on it."""

import dagster as dg

# A sample that was added and has no index yet is indexed; a failed sample waits for a person.
on_arrival = dg.AutomationCondition.on_missing() & ~dg.AutomationCondition.in_progress()
# All else follows its inputs, once none of them is missing or on its way.
after_inputs = dg.AutomationCondition.eager()

# Calls follow the embeddings alone: a renewed index reaches them through renewed shards, and they
# must not start between the two.
after_embeddings = after_inputs.ignore(dg.AssetSelection.assets("sequence_index"))

automation_sensor = dg.AutomationConditionSensorDefinition(
    "automation",
    target=dg.AssetSelection.all(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=10,
    description="Takes every sample from its FASTA file to its report.",
)
