-- Stages of deals: what a source calls them, and when a deal entered each.

create function salesai.stage_name(source text, stage text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce((select s.name from salesai.stage s where s.source = $1 and s.external_id = $2 and s.deleted_at is null), $2)
$$;
comment on function salesai.stage_name(text, text) is
    'Name of a stage of which a record may have an id only (HubSpot); the id itself where no such stage was loaded';

-- In whatever order entries come, each stay in a stage is there once, from its beginning.
create function salesai.note_stage(opportunity_id bigint, stage text, entered_at timestamptz) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if stage = (select h.stage from salesai.opportunity_stage_history h where h.opportunity_id = $1 and h.entered_at <= $3
                order by h.entered_at desc limit 1) then
        return false;
    end if;
    update salesai.opportunity_stage_history h set entered_at = $3
    where h.opportunity_id = $1 and h.stage = $2
      and h.entered_at = (select min(n.entered_at) from salesai.opportunity_stage_history n where n.opportunity_id = $1 and n.entered_at > $3);
    if not found then
        insert into salesai.opportunity_stage_history (opportunity_id, stage, entered_at) values (opportunity_id, stage, entered_at)
        on conflict do nothing;
    end if;
    return found;
end
$$;
comment on function salesai.note_stage(bigint, text, timestamptz) is 'Notes when a deal entered a stage; false when that says nothing new';

create function salesai.name_stage(stage_id bigint) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update salesai.opportunity o set stage = s.name
    from salesai.stage s
    where s.id = stage_id and o.source = s.source and o.properties ->> 'stage' = s.external_id and o.stage <> s.name;
    update salesai.opportunity_stage_history h set stage = s.name
    from salesai.stage s join salesai.opportunity o on o.source = s.source
    where s.id = stage_id and o.id = h.opportunity_id and h.stage = s.external_id and h.stage <> s.name;
$$;
comment on function salesai.name_stage(bigint) is 'Gives deals that have the id of a stage its name; a later name does not change what history says';

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
    stage constant text := salesai.stage_name(source, record ->> 'stage');
    entered_at constant timestamptz := record ->> 'entered_at';
begin
    id := salesai.external_reference('opportunity', source, record ->> 'opportunity');
    if id is null or coalesce(stage, '') = '' or entered_at is null then
        raise exception 'a stage change needs "opportunity", "stage" and "entered_at"' using errcode = '22023';
    end if;
    outcome := case when salesai.note_stage(id, stage, entered_at) then 'inserted' else 'unchanged' end;
    return next;
end
$$;
comment on function salesai.ingest_stage_change(text, jsonb) is 'Stores one entry of a deal''s stage history; use salesai.ingest_crm';

