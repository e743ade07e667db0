-- Rights of the roles. What a row-level policy then leaves visible depends on salesai.principal.

revoke all on all functions in schema salesai from public;
revoke all on all tables in schema salesai from public;
grant usage on schema salesai to
    salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
grant execute on all functions in schema salesai to
    salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
-- Triggers need no right of who fires them, and nobody else's tables may have this one: it runs with the owner's rights.
revoke execute on function salesai.count_jobs(), salesai.note_new_chunks(), salesai.note_changed_embeddings(), salesai.forget_results(),
    salesai.match_participants()
    from salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
revoke execute on function salesai.create_embedding_codes(bigint), salesai.empty_lexical_index()
    from salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
-- What the worker does to embedding sets, and what only an administrator decides.
revoke execute on function
    salesai.create_embedding_set(text, text, integer, text, boolean), salesai.switch_embedding_set(bigint),
    salesai.complete_embedding_set(bigint), salesai.build_embedding_index(bigint), salesai.enqueue_missing_embeddings(bigint),
    salesai.lock_embedding_sets(boolean)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway;
revoke execute on function
    salesai.reembed(text, text, boolean), salesai.activate_embedding_set(bigint, boolean), salesai.drop_embedding_set(bigint), salesai.use_embedding_codes(bigint),
    salesai.missing_embeddings(bigint), salesai.locked_embedding_set(bigint), salesai.pause(text), salesai.resume(text), salesai.recount_jobs()
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
revoke execute on function salesai.merge_lexical_delta(integer), salesai.merge_lexical_segments(), salesai.merge_embedding_delta(integer),
    salesai.code_embeddings(bigint), salesai.waiting_embeddings(bigint, integer)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway;
revoke execute on function salesai.purge_results(interval, bigint), salesai.purge_requests(interval)
    from salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway;
revoke execute on function salesai.rebuild_lexical_index(real, real)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
revoke execute on function salesai.backfill(text, timestamptz, timestamptz, boolean)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
revoke execute on function salesai.process(integer, integer)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway;
revoke execute on function salesai.apply_redaction(text, integer)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
-- Everybody may use an adapter, which loads it; only an administrator decides which there are.
revoke execute on function
    salesai.register_model(text, text, text, text, integer, integer), salesai.register_models(), salesai.base_model(text),
    salesai.begin_adapter(text, jsonb, text, text, text, jsonb), salesai.add_adapter_part(bigint, integer, bytea),
    salesai.inspect_adapter(bigint), salesai.finish_adapter(bigint, boolean),
    salesai.register_adapter(text, bytea, jsonb, text, text, text, boolean, jsonb),
    salesai.activate_adapter(text, bigint), salesai.retire_adapter(text), salesai.remove_adapter(bigint),
    salesai.unload_adapter(text, integer), salesai.lock_adapter(text)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
-- What models are told to do is an administrator's to say; everybody sees it.
revoke execute on function
    salesai.prompt_template_create(text, text, text, text), salesai.prompt_template_test(text, integer, text, integer),
    salesai.prompt_template_activate(text, integer, boolean), salesai.prompt_template_rollback(text, text),
    salesai.prompt_answers(text, integer, text, jsonb), salesai.compare_prompts(text, integer, integer, text, jsonb)
    from salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;

-- Readers: everything but originals and their keys; answers are kept for everyone who asks.
grant select on
    salesai.team, salesai.rep, salesai.team_member, salesai.principal, salesai.account, salesai.contact,
    salesai.opportunity, salesai.opportunity_stage_history, salesai.interaction, salesai.participant,
    salesai.segment, salesai.chunk, salesai.embedding_set, salesai.job, salesai.job_error, salesai.insight,
    salesai.citation, salesai.call_metrics, salesai.queue_status, salesai.pipeline_errors, salesai.sidecar_status,
    salesai.model, salesai.adapter, salesai.models, salesai.adapters, salesai.redaction_policy,
    salesai.job_count, salesai.queue_pause, salesai.source_status, salesai.embedding_sets, salesai.lexical_language,
    salesai.insight_request, salesai.prompt_template, salesai.prompt_templates, salesai.interaction_summary, salesai.index_progress,
    salesai.stage, salesai.opportunity_stages
    to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
-- Not what the CRM says besides, which may be costs.
grant select (id, source, external_id, name, code, source_updated_at, updated_at, deleted_at, name_key) on salesai.product
    to salesai_manager, salesai_rep, salesai_analyst, salesai_worker;
grant select on salesai.product to salesai_admin, salesai_gateway;
grant insert on salesai.insight, salesai.citation
    to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway;

-- Writers: ingestion of interactions, and originals of what they can see.
grant select, insert on salesai.raw_payload, salesai.data_key
    to salesai_admin, salesai_manager, salesai_rep, salesai_gateway;
grant insert on salesai.inbox to salesai_admin, salesai_manager, salesai_rep, salesai_gateway;
grant insert, update on salesai.interaction, salesai.participant, salesai.segment, salesai.job
    to salesai_admin, salesai_manager, salesai_rep, salesai_gateway;

-- CRM data comes from the gateway and from administrators.
grant insert, update on salesai.team, salesai.rep, salesai.account, salesai.contact, salesai.product, salesai.stage,
    salesai.opportunity, salesai.opportunity_stage_history, salesai.chunk to salesai_admin, salesai_gateway;
grant insert, update, delete on salesai.team_member to salesai_admin, salesai_gateway;
grant insert, update, delete on salesai.principal, salesai.redaction_policy, salesai.queue_pause to salesai_admin;
grant select on salesai.backfill, salesai.backfills to salesai_admin;
grant insert (task, version, model, text, note, created_by), update (state, activated_by, activated_at, is_forced, replaced_version)
    on salesai.prompt_template to salesai_admin;
grant select, insert, update, delete on salesai.prompt_template_case to salesai_admin;
grant select, insert on salesai.prompt_template_run to salesai_admin;

grant select, insert, update, delete on salesai.job, salesai.chunk to salesai_worker;
-- Which words there are, and where, is nobody else's to read.
grant select, insert, update, delete on salesai.lexical_segment, salesai.posting_list, salesai.lexical_delta to salesai_worker;
grant select, update on salesai.lexical_index to salesai_worker;
grant select, update on salesai.embedding_code_index to salesai_worker;
grant select, update, delete on salesai.embedding_delta to salesai_worker;
grant select, insert, delete on salesai.result_cache to salesai_worker;
grant select on salesai.result_epoch to salesai_worker;
grant update, delete on salesai.insight_request to salesai_worker;
grant insert, update on salesai.interaction_summary to salesai_admin, salesai_worker;
grant select, update on salesai.raw_payload to salesai_worker;
grant select on salesai.data_key to salesai_worker;
grant insert on salesai.segment to salesai_worker;
grant insert, update on salesai.participant to salesai_worker;
grant select, insert on salesai.job_error to salesai_worker;
grant update on salesai.interaction to salesai_worker;
-- Whose they are, is for row-level security to say.
grant select, insert, update, delete on salesai.column_task, salesai.column_task_version, salesai.column_value
    to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
grant select on salesai.column_tasks, salesai.column_task_errors
    to salesai_admin, salesai_manager, salesai_rep, salesai_analyst, salesai_gateway, salesai_worker;
