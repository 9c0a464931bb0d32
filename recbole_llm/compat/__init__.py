"""RecBole 1.2.1 on today's NumPy, pandas, SciPy, PyTorch and Ray: one small function per breakage.

Nothing of RecBole is copied. A method or function is wrapped, or one module gets a stand-in for a library
that it calls; NumPy alone is touched globally, by the aliases that RecBole itself sets. Every original stays
reachable as ``.replaced``. Issues and pull requests (#) are those of https://github.com/RUCAIBox/RecBole.
"""

from . import arrays, files, frames, models, tuning

PATCHES = (
    arrays.set_numpy_aliases,
    arrays.keep_numpy_aliases_missing_only,
    arrays.use_current_amp,
    frames.read_text_as_objects,
    frames.hush_chained_assignment,
    frames.fill_missing_values,
    frames.remap_sequences,
    frames.renumber_entity_sequences,
    frames.normalize_sequences,
    frames.discretize_sequences,
    frames.measure_benchmark_histories,
    frames.hand_over_writable_columns,
    models.restore_dok_update,
    models.read_relations_in_single_precision,
    models.count_every_interaction,
    models.count_no_flops_without_predict,
    models.ask_for_no_negatives_with_full_softmax,
    models.switch_anomaly_detection_off,
    files.write_plain_checkpoints,
    files.read_plain_pretrained_models,
    files.restore_other_parameters,
    files.guard_saved_datasets,
    files.ask_before_unpickling,
    tuning.report_to_current_ray,
    files.load_from_plain_checkpoints,
    tuning.carry_patches_to_new_processes,
)


def apply():
    """Make RecBole work on the installed libraries; a second call changes nothing."""
    for patch in PATCHES:
        patch()
