-- Row-level security, forced on every table with customer data. Rows that carry owner and team are
-- visible by scope; all others follow the row they belong to.

do $do$
declare
    item record;
begin
    for item in
        select * from (values
            ('account', null), ('opportunity', null), ('interaction', null), ('chunk', null),
            ('contact', 'account a where a.id = account_id'),
            ('opportunity_stage_history', 'opportunity o where o.id = opportunity_id'),
            ('raw_payload', 'interaction i where i.id = interaction_id'),
            ('data_key', 'interaction i where i.id = interaction_id'),
            ('participant', 'interaction i where i.id = interaction_id'),
            ('segment', 'interaction i where i.id = interaction_id'),
            ('interaction_summary', 'interaction i where i.id = interaction_id'),
            ('job', 'interaction i where i.id = interaction_id'),
            ('job_error', 'interaction i where i.id = interaction_id'),
            ('citation', 'insight i where i.id = insight_id')) t (table_name, belongs_to)
    loop
        execute pg_catalog.format('alter table salesai.%I enable row level security, force row level security', item.table_name);
        execute pg_catalog.format(
            'create policy visible on salesai.%I using (%2$s) with check ((%2$s) and %3$s)', item.table_name,
            case when item.table_name in ('job', 'job_error', 'contact')
                -- Work on embedding sets belongs to no interaction, some contacts to no account.
                then '(select salesai.reads_all()) or exists (select from salesai.' || item.belongs_to || ')'
                when item.belongs_to is not null
                then 'exists (select from salesai.' || item.belongs_to || ')'
                else '(select salesai.reads_all())
                      or owner_rep_id = (select salesai.reader_rep_id())
                      or team_id = any ((select salesai.reader_team_ids())::bigint[])' end,
            -- Answers are kept for readers too.
            case when item.table_name = 'citation' then 'true' else '(select salesai.writes())' end);
    end loop;
end
$do$;

alter table salesai.insight enable row level security, force row level security;
create policy own on salesai.insight
    using (created_by = salesai.current_role_name() or (select salesai.reads_all() and salesai.writes()))
    with check (created_by = salesai.current_role_name());

-- Whom the answer belongs to. Only a worker changes one.
alter table salesai.insight_request enable row level security, force row level security;
create policy own on salesai.insight_request for select
    using (salesai.is_asker(asker_id) or (select salesai.reads_all() and salesai.writes()));
create policy worker on salesai.insight_request to salesai_worker using (true);

-- A column task belongs to whoever has the rights of the table's owner, whose rights it has.
alter table salesai.column_task enable row level security, force row level security;
create policy own on salesai.column_task using (salesai.is_column_owner(owner_name))
    with check (salesai.is_column_owner(owner_name)
                and owner_name = (select pg_catalog.pg_get_userbyid(c.relowner) from pg_catalog.pg_class c where c.oid = relation));
create policy reads_all on salesai.column_task for select using ((select salesai.reads_all() and salesai.writes()));
create policy worker on salesai.column_task to salesai_worker using (true);
alter table salesai.column_task_version enable row level security, force row level security;
create policy own on salesai.column_task_version using (task_id in (select t.id from salesai.column_task t where salesai.is_column_owner(t.owner_name)));
create policy reads_all on salesai.column_task_version for select using ((select salesai.reads_all() and salesai.writes()));
create policy worker on salesai.column_task_version to salesai_worker using (true);
alter table salesai.column_value enable row level security, force row level security;
create policy own on salesai.column_value using (task_id in (select t.id from salesai.column_task t where salesai.is_column_owner(t.owner_name)));
create policy reads_all on salesai.column_value for select using ((select salesai.reads_all() and salesai.writes()));
create policy worker on salesai.column_value to salesai_worker using (true);

-- Words of customers, which nobody reads row by row.
alter table salesai.posting_list enable row level security, force row level security;
create policy worker on salesai.posting_list to salesai_worker using (true);
alter table salesai.lexical_delta enable row level security, force row level security;
create policy worker on salesai.lexical_delta to salesai_worker using (true);
alter table salesai.embedding_code_index enable row level security, force row level security;
create policy worker on salesai.embedding_code_index to salesai_worker using (true);
alter table salesai.embedding_delta enable row level security, force row level security;
create policy worker on salesai.embedding_delta to salesai_worker using (true);
alter table salesai.result_cache enable row level security, force row level security;
create policy worker on salesai.result_cache to salesai_worker using (true);
