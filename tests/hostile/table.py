"""The bad inputs that are tested, and where: case by case, as the numbers of the tests' names count them.

1 to 20 concern the DIMSE port, 21 to 44 data sets, 45 to 56 STOW-RS, 57 to 70 settings and administration.
63 and 64 (entity tags, deletion) are inputs of an administration over HTTP, which this node does not have.
57 to 62 and 65 to 69 are tested where their kind of input comes in: config.toml, pipelines, DICOMweb, the
command line. There are no cookies (67): what a page elsewhere might misuse is where its user is.
"""

from __future__ import annotations

WIRE, DATASETS, HTTP, SETTINGS = (
    f"hostile/test_{name}.py::" for name in ("wire", "datasets", "http", "settings")
)
STOW, STOW_WIRE, INGEST = (
    "dicomweb/test_stow.py::",
    "dicomweb/test_stow_wire.py::",
    "services/test_ingest.py::",
)
APP, GUARD = "dicomweb/test_app.py::", "dicomweb/test_guard.py::"
RECEIVER, REGISTRY = "dimse/test_receiver.py::", "pipeline/test_registry.py::"
BOTH = (f"{DATASETS}test_it_is_refused_by_c_store", f"{DATASETS}test_it_is_refused_by_stow")
KEPT = (f"{DATASETS}test_it_is_kept_by_both",)

CASES: dict[int, tuple[str, ...]] = {
    1: (
        f"{WIRE}test_01_a_pdu_that_claims_4_gb_ends_the_connection",
        f"{WIRE}test_01_a_p_data_pdu_that_claims_4_gb_ends_the_association",
    ),
    2: (
        f"{WIRE}test_02_half_a_pdu_is_closed_at_the_deadline",
        f"{WIRE}test_02_a_pdu_that_drips_is_closed_at_the_deadline",
    ),
    3: (f"{WIRE}test_03_a_silent_connection_is_closed_at_the_deadline",),
    4: (f"{WIRE}test_04_what_is_no_pdu_is_aborted",),
    5: (f"{WIRE}test_05_p_data_before_an_association_is_aborted",),
    6: (f"{WIRE}test_06_another_protocol_version_is_rejected",),
    7: (f"{WIRE}test_07_an_unknown_called_ae_title_is_rejected",),
    8: (
        f"{RECEIVER}test_a_caller_whose_title_or_address_is_unknown_is_rejected",
        "dimse/test_tls.py::test_a_certificate_of_another_authority_is_refused_on_either_side",
    ),
    9: (f"{WIRE}test_09_too_many_associations_are_rejected",),
    10: (f"{WIRE}test_10_impossible_presentation_contexts_are_aborted",),
    11: (f"{WIRE}test_11_an_unsupported_class_and_syntax_are_answered_in_their_context",),
    12: (
        f"{WIRE}test_12_lying_item_lengths_are_aborted",
        f"{WIRE}test_12_a_pdv_with_a_lying_length_is_aborted",
    ),
    13: (f"{WIRE}test_13_a_message_in_a_context_that_was_not_accepted_is_aborted",),
    14: (f"{WIRE}test_14_a_command_without_its_elements_is_aborted",),
    15: (f"{WIRE}test_15_an_unknown_command_is_answered_so",),
    16: (f"{WIRE}test_16_another_sop_class_than_the_contexts_is_refused",),
    17: (f"{WIRE}test_17_another_instance_than_the_command_names_is_refused",),
    18: (f"{WIRE}test_18_a_data_set_that_is_cut_leaves_nothing",),
    19: (f"{WIRE}test_19_endless_fragments_are_aborted_at_the_maximum_size",),
    20: (f"{WIRE}test_20_an_abort_before_the_response_keeps_the_instance_and_the_resend_is_welcome",),
    **dict.fromkeys((21, 22, *range(25, 33), 36, 39), BOTH),
    23: (f"{INGEST}test_a_resent_instance_is_acknowledged_and_kept_once",),
    24: (f"{INGEST}test_other_content_under_the_same_uids_is_refused_audited_and_not_kept",),
    33: (*KEPT, "imaging/test_volume.py::test_a_slice_that_cannot_be_decoded_is_named_by_its_place"),
    34: (f"{STOW}test_a_file_head_of_any_kind_leaves_no_trace_in_what_is_kept",),
    35: (f"{INGEST}test_a_class_whose_instances_are_not_stored_is_refused",),
    37: KEPT,
    38: (*KEPT, f"{WIRE}test_07_what_is_no_ae_title_is_rejected_or_aborted_and_never_logged"),
    40: ("acceptance/test_way_of_a_study.py::test_two_patients_in_one_study_are_held_for_a_person",),
    41: (
        f"{RECEIVER}test_each_error_is_answered_with_its_status",
        f"{STOW}test_a_disk_without_space_is_503_and_the_client_is_told_when_to_come_again",
    ),
    42: (
        f"{STOW}test_a_sync_that_fails_is_503_and_keeps_nothing",
        f"{APP}test_a_failing_disk_is_told_before_the_answer",
    ),
    43: (f"{STOW}test_what_could_not_be_kept_is_never_answered_as_stored",),
    44: (f"{RECEIVER}test_an_unknown_class_is_refused_and_the_rest_of_the_association_goes_on",),
    45: (
        f"{HTTP}test_45_a_body_without_its_end_is_400",
        f"{STOW_WIRE}test_a_boundary_that_is_missing_or_too_long_is_400",
    ),
    46: (f"{HTTP}test_46_a_length_over_the_limit_is_413_unread",),
    47: (f"{STOW_WIRE}test_a_compressed_body_is_415",),
    48: (f"{STOW_WIRE}test_an_endless_preamble_and_endless_headers_of_a_part_are_400_at_a_cap",),
    49: (f"{STOW_WIRE}test_ten_to_the_five_empty_parts_are_413",),
    50: (f"{STOW}test_parts_of_another_kind_are_415",),
    51: ("dicomweb/test_stow_metadata.py::test_bulk_data_elsewhere_are_400_and_never_fetched",),
    52: (f"{STOW}test_an_instance_of_another_study_than_the_url_names_is_refused",),
    53: (f"{HTTP}test_53_a_body_that_drips_is_408",),
    54: (f"{STOW_WIRE}test_two_ways_of_saying_the_length_are_400",),
    55: (
        f"{GUARD}test_a_token_that_proves_nothing_is_not_taken",
        f"{GUARD}test_who_may_ask_is_answered_by_http_and_by_websocket",
    ),
    56: (f"{HTTP}test_56_good_and_bad_mixed_are_202",),
    57: (f"{HTTP}test_57_deep_json_is_400_wherever_json_is_taken",),
    58: (
        f"{SETTINGS}test_58_what_is_no_ae_title_is_refused",
        f"{SETTINGS}test_58_a_name_that_is_given_twice_is_refused",
    ),
    59: (f"{SETTINGS}test_59_an_address_that_is_no_peers_is_refused",),
    60: (f"{REGISTRY}test_a_wrong_pipeline_is_refused_with_what_is_wrong",),
    61: (
        f"{REGISTRY}test_weights_that_are_no_safetensors_are_found",
        f"{REGISTRY}test_the_digest_changes_with_what_decides_the_answer_and_with_nothing_else",
    ),
    62: (f"{HTTP}test_62_metacharacters_in_a_path_or_query_are_400_or_404",),
    65: (f"{HTTP}test_65_a_huge_limit_is_bounded_or_refused",),
    66: (f"{SETTINGS}test_66_a_catastrophic_regular_expression_costs_next_to_nothing",),
    67: (f"{APP}test_a_page_elsewhere_changes_nothing_through_a_users_browser",),
    68: (
        f"{GUARD}test_who_guesses_has_to_wait_and_is_told_of_and_nobody_else_is",
        f"{GUARD}test_guessing_is_429_and_in_the_audit_trail",
    ),
    69: (f"{SETTINGS}test_69_a_secret_is_never_read_back",),
    70: (f"{SETTINGS}test_70_an_unknown_key_an_insecure_address_and_no_limit_stop_the_start",),
}
ELSEWHERE = frozenset((63, 64))
"""Inputs of an administration over HTTP."""
