"""Kinds of keys: those that say what is measured, and those that decide no result at all."""

from recbole.utils import dataset_arguments, evaluation_arguments, general_arguments

# Which events and items there are, which of them are validated on and how; numbers are compared where these are alike.
# How much of a history a model reads is its own affair: its targets stay the same.
MEASURED = frozenset(
    """
    model dataset seed eval_step stopping_step reproducibility
    split_column cold_share cold_by shorten_histories disturb_histories legacy_mrr use_query_time valid_users
    mask_history
    entity_kg_num_interval relation_kg_num_interval kg_reverse_r discretization numerical_features
    """.split()
).union(dataset_arguments, evaluation_arguments) - {"MAX_ITEM_LIST_LENGTH"}

# Where a run stands, what it keeps and shows, what it stands beside, how fast it is.
IDLE = frozenset(
    """
    run_path run_name resume saved raw_path artifact_path allow_pickle trust_remote_code config_files baseline refit
    nproc ray_address local_rank offset group_offset world_size ip port device device_threads worker single_spec
    eval_batch_size text_batch_size loss_decimal_place metric_decimal_place wandb_project
    """.split()
).union(general_arguments) - {"seed", "reproducibility"}

# What ``stages`` sets between the two stages of a model.
OF_STAGES = frozenset(("train_stage", "pre_model_path"))


def changed(was, now, known=()):
    """What is another one in the settings ``now`` than it ``was``, in words; but for the ``known`` keys and idle ones.

    A key that another version has added or dropped has no two values to compare.
    """
    both = sorted(was.keys() & now.keys() - IDLE - set(known))
    return [f"{key} was {was[key]!r}, now {now[key]!r}" for key in both if was[key] != now[key]]
