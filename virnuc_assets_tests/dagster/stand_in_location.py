"""The stand-ins with the project's sensors, for a platform to load."""

from virnuc_assets.automation import automation_sensor, call_sensor, embedding_sensor
from virnuc_assets.sensors.inbox import inbox_sensor
from virnuc_assets.sensors.sources import sources_sensor
from virnuc_assets_tests.dagster.stand_ins import definitions

defs = definitions(
    sensors=[inbox_sensor, sources_sensor, automation_sensor, embedding_sensor, call_sensor]
)
