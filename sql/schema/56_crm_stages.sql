-- Stages of deals: what a source calls them, and when a deal entered each.

create function salesai.stage_name(source text, stage text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select coalesce((select s.name from salesai.stage s where s.source = $1 and s.external_id = $2), $2) $$;
comment on function salesai.stage_name(text, text) is
    'Name of a stage of which a record may have an id only (HubSpot); the id itself where no such stage was loaded';

create function salesai.name_stage(stage_id bigint) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update salesai.opportunity o set stage = s.name
    from salesai.stage s
    where s.id = stage_id and o.source = s.source and o.properties ->> 'stage' = s.external_id and o.stage <> s.name
$$;
comment on function salesai.name_stage(bigint) is 'Gives deals that are in a stage its present name';

create view salesai.opportunity_stages with (security_invoker) as
select e.opportunity_id, salesai.stage_name(e.source, e.stage) as stage, e.entered_at,
    lead(e.entered_at) over (partition by e.opportunity_id order by e.entered_at, e.stage) as left_at
from (
    select h.opportunity_id, o.source, h.stage, h.entered_at,
        lag(h.stage) over (partition by h.opportunity_id order by h.entered_at, h.stage) as stage_before
    from salesai.opportunity_stage_history h join salesai.opportunity o on o.id = h.opportunity_id) e
where e.stage_before is distinct from e.stage;
comment on view salesai.opportunity_stages is
    'Each stay of a deal in a stage, by the stage''s present name; left_at is NULL for the last. A source that gives no history is known by when its records came';

create function salesai.crm_stage_change(shape text, record jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select case shape when 'plain' then record else jsonb_strip_nulls(case shape
        -- OpportunityHistory, or OpportunityFieldHistory.
        when 'salesforce' then jsonb_build_object(
            'opportunity', f ->> 'opportunityid', 'entered_at', f ->> 'createddate',
            'stage', coalesce(f ->> 'stagename', case f ->> 'field' when 'StageName' then f ->> 'newvalue' end))
        -- Fivetran's DEAL_STAGE, or DEAL_PROPERTY_HISTORY.
        when 'hubspot' then jsonb_build_object(
            'opportunity', f ->> 'dealid', 'entered_at', coalesce(f ->> 'dateentered', f ->> 'timestamp'),
            'stage', case when coalesce(f ->> 'name', 'dealstage') = 'dealstage' then f ->> 'value' end)
        end) end
    from (select salesai.crm_fields(record) as f) fields
$$;
comment on function salesai.crm_stage_change(text, jsonb) is
    'A row of the history of Salesforce''s opportunities or HubSpot''s deals in the fields of salesai.ingest_crm';

create function salesai.ingest_stage_change(source text, record jsonb) returns table (id bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    stage constant text := record ->> 'stage';
    entered_at constant timestamptz := record ->> 'entered_at';
begin
    id := salesai.external_reference('opportunity', source, record ->> 'opportunity');
    if id is null or coalesce(stage, '') = '' or entered_at is null then
        raise exception 'a stage change needs "opportunity", "stage" and "entered_at"' using errcode = '22023';
    end if;
    insert into salesai.opportunity_stage_history (opportunity_id, stage, entered_at) values (id, stage, entered_at) on conflict do nothing;
    outcome := case when found then 'inserted' else 'unchanged' end;
    return next;
end
$$;
comment on function salesai.ingest_stage_change(text, jsonb) is 'Stores one entry of a deal''s stage history; use salesai.ingest_crm';

