"""All mutations."""

from tests.mutations import (
    of_agents,
    of_architectures,
    of_data,
    of_detection,
    of_embeddings,
    of_envs,
    of_language,
    of_lpg,
    of_nas,
    of_networks,
    of_plugins,
    of_rfm,
    of_runs,
    of_sequences,
    of_social,
    of_tables,
)

ALL = [
    *of_agents.MUTATIONS,
    *of_lpg.MUTATIONS,
    *of_nas.MUTATIONS,
    *of_networks.MUTATIONS,
    *of_sequences.MUTATIONS,
    *of_language.MUTATIONS,
    *of_data.MUTATIONS,
    *of_detection.MUTATIONS,
    *of_embeddings.MUTATIONS,
    *of_envs.MUTATIONS,
    *of_architectures.MUTATIONS,
    *of_rfm.MUTATIONS,
    *of_social.MUTATIONS,
    *of_runs.MUTATIONS,
    *of_tables.MUTATIONS,
    *of_plugins.MUTATIONS,
]
