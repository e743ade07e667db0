-- CRM records: one upsert per record, each in its own subtransaction, so that a bad one blocks no other.

create function salesai.external_reference(kind text, source text, external_id text) returns bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    id bigint;
begin
    if external_id is null then
        return null;
    end if;
    execute format('select t.id from salesai.%I t where t.source = $1 and t.external_id = $2', kind)
        into id using source, external_id;
    if id is null then
        raise exception 'record names an unknown %', kind using
            errcode = 'P0002', hint = format('Load %ss first.', kind);
    end if;
    return id;
end
$$;
comment on function salesai.external_reference(text, text, text) is 'Id of a team, rep, account or contact by its external id';

-- Columns of each kind: how a record's fields are taken over. Order: what others refer to comes first.
create function salesai.ingest_crm_record(source text, kind text, record jsonb) returns table (id bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    owner_id bigint := case when kind in ('account', 'opportunity')
        then salesai.external_reference('rep', $1, record ->> 'owner') end;
    account_id bigint := case when kind in ('contact', 'opportunity')
        then salesai.external_reference('account', $1, record ->> 'account') end;
    fields jsonb;
    sets text;
    names text;
    record_id bigint;
    is_new boolean;
    team_id bigint := salesai.external_reference('team', $1, record ->> 'team');
begin
    if account_id is null and (record -> 'keeps_account')::boolean and kind in ('contact', 'opportunity') then
        -- The source says it elsewhere, if at all.
        execute format('select t.account_id from salesai.%I t where t.source = $1 and t.external_id = $2 for no key update', kind)
            into account_id using $1, record ->> 'external_id';
    end if;
    if team_id is null and kind in ('account', 'opportunity') then
        select min(m.team_id) into team_id from salesai.team_member m where m.rep_id = owner_id;
    end if;
    fields := jsonb_build_object('name', record -> 'name', 'properties', record, 'source_updated_at', record -> 'updated_at')
        || case kind
            when 'team' then '{}'
            when 'rep' then jsonb_build_object('email', record -> 'email')
            when 'account' then jsonb_build_object('domain', record -> 'domain', 'industry', record -> 'industry',
                'owner_rep_id', owner_id, 'team_id', team_id)
            when 'product' then jsonb_build_object('code', record -> 'code')
            when 'stage' then jsonb_build_object('pipeline', record -> 'pipeline', 'position', record -> 'position',
                'probability', record -> 'probability', 'is_closed', record -> 'is_closed',
                'is_won', coalesce((record ->> 'is_won')::boolean,
                    (record ->> 'is_closed')::boolean and (record ->> 'probability')::real = 1))
            when 'contact' then jsonb_build_object('account_id', account_id, 'email', record -> 'email', 'title', record -> 'title')
            when 'opportunity' then jsonb_build_object('account_id', account_id,
                -- A source that says nothing of it leaves what is known.
                'stage', coalesce(salesai.stage_name($1, record ->> 'stage'),
                    (select o.stage from salesai.opportunity o where o.source = $1 and o.external_id = record ->> 'external_id'),
                    case when record ? 'fields' then 'unknown' end),
                'amount', record -> 'amount', 'currency', record -> 'currency', 'close_date', record -> 'close_date',
                'owner_rep_id', owner_id, 'team_id', team_id)
        end;
    -- A record that does not say of when it is leaves the guard as it was.
    select string_agg(format('%I', f), ', '),
        string_agg(format(case f when 'source_updated_at' then '%I = coalesce(excluded.%1$I, t.%1$I)' else '%I = excluded.%1$I' end, f), ', ')
    into names, sets from jsonb_object_keys(fields) f;
    -- Field names come from the list above, never from the record; values are bound.
    execute format(
        'insert into salesai.%I as t (source, external_id, %s)
         select $1, $2, %2$s from jsonb_populate_record(null::salesai.%1$I, $3)
         on conflict (source, external_id) do update set %3$s, updated_at = now(), deleted_at = null
             where (t.properties is distinct from excluded.properties or t.deleted_at is not null)
               and coalesce(excluded.source_updated_at >= t.source_updated_at, true)
         returning t.id, xmax = 0', kind, names, sets)
        into record_id, is_new using $1, record ->> 'external_id', fields;
    if record_id is null then
        return query execute format(
            'select t.id, case when ($3 ->> ''updated_at'')::timestamptz < t.source_updated_at then ''stale'' else ''unchanged'' end
             from salesai.%I t where t.source = $1 and t.external_id = $2', kind)
            using $1, record ->> 'external_id', record;
        return;
    end if;
    if kind = 'rep' then
        delete from salesai.team_member m where m.rep_id = record_id and m.team_id is distinct from team_id;
        insert into salesai.team_member (rep_id, team_id)
            select record_id, team_id where team_id is not null on conflict do nothing;
    elsif kind = 'opportunity' then
        -- Entries may come in any order, so all are kept; stays are made of them on reading. A source without a history
        -- of its own is noted as it comes.
        insert into salesai.opportunity_stage_history (opportunity_id, stage, entered_at)
            select record_id, h.stage, h.entered_at
            from (select e ->> 'stage' as stage, (e ->> 'entered_at')::timestamptz as entered_at
                  from jsonb_array_elements(coalesce(record -> 'stage_history', '[]')) e
                  union all
                  select record ->> 'stage', coalesce((record ->> 'updated_at')::timestamptz, now())) h
            where h.stage <> '' and h.entered_at is not null
            on conflict do nothing;
    elsif kind = 'stage' then
        perform salesai.name_stage(record_id);
    end if;
    return query select record_id, case when is_new then 'inserted' else 'updated' end;
end
$$;
comment on function salesai.ingest_crm_record(text, text, jsonb) is 'Upserts one CRM record; use salesai.ingest_crm';

-- What the source deleted.
create function salesai.delete_crm_record(source text, kind text, record jsonb) returns table (id bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    return query execute format(
        'with deleted as (
             update salesai.%I t set deleted_at = now(), updated_at = now(), source_updated_at = coalesce($3, greatest(now(), t.source_updated_at))
             where t.source = $1 and t.external_id = $2 and t.deleted_at is null and coalesce($3 >= t.source_updated_at, true)
             returning t.id)
         select d.id, ''deleted'' from deleted d
         union all
         select t.id, case when t.deleted_at is null then ''stale'' else ''unchanged'' end from salesai.%1$I t
         where t.source = $1 and t.external_id = $2 and not exists (select from deleted)', kind)
        using source, record ->> 'external_id', (record ->> 'updated_at')::timestamptz;
    if not found then
        -- A deletion that overtook what it deletes: an older copy that comes later stays out.
        execute format('insert into salesai.%I (source, external_id, name, source_updated_at, deleted_at%s)
             values ($1, $2, $2, $3, now()%s) on conflict do nothing',
            kind, case kind when 'opportunity' then ', stage' end, case kind when 'opportunity' then format(', %L', 'unknown') end)
            using source, record ->> 'external_id', coalesce((record ->> 'updated_at')::timestamptz, now());
        return query values (null::bigint, 'unchanged');
    end if;
end
$$;
comment on function salesai.delete_crm_record(text, text, jsonb) is 'Marks a CRM record as deleted; use salesai.ingest_crm with "deleted": true';

-- Field names are compared without case and underscores, so that exports in snake case fit as well.
create function salesai.crm_fields(record jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_object_agg(regexp_replace(lower(regexp_replace(e.key, '^property_(hs_)?', '')), '_', '', 'g'), e.value)
    from jsonb_each(record || case jsonb_typeof(record -> 'properties') when 'object' then record -> 'properties' else '{}' end) e
    where e.value not in ('""', 'null') and jsonb_typeof(e.value) <> 'object'
$$;
comment on function salesai.crm_fields(jsonb) is 'Fields of a CRM''s record that have a value, their names in lower case without underscores and Fivetran''s prefixes';

create function salesai.crm_record(shape text, record jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select case shape when 'plain' then record else jsonb_strip_nulls(case shape
        when 'salesforce' then jsonb_build_object(
            'external_id', coalesce(f ->> 'apiname', f ->> 'id'), 'owner', f ->> 'ownerid', 'account', f ->> 'accountid', 'email', f ->> 'email',
            'title', f ->> 'title', 'code', f ->> 'productcode', 'industry', f ->> 'industry', 'stage', f ->> 'stagename', 'amount', f ->> 'amount',
            'currency', f ->> 'currencyisocode', 'close_date', f ->> 'closedate',
            'name', coalesce(f ->> 'name', nullif(concat_ws(' ', f ->> 'firstname', f ->> 'lastname'), ''), f ->> 'masterlabel'),
            'position', f ->> 'sortorder', 'probability', (f ->> 'defaultprobability')::real / 100, 'is_closed', f ->> 'isclosed', 'is_won', f ->> 'iswon',
            'stage_history', (select jsonb_agg(jsonb_build_object('stage', h ->> 'StageName', 'entered_at', h ->> 'CreatedDate'))
                              from jsonb_path_query(record, '$.OpportunityHistories.records[*]') h),
            'domain', salesai.domain_of(f ->> 'website'),
            'updated_at', coalesce(f ->> 'lastmodifieddate', f ->> 'systemmodstamp', f ->> 'fivetransynced'),
            'deleted', coalesce(f ->> 'isdeleted', f ->> 'fivetrandeleted', 'false')::boolean)
        when 'hubspot' then jsonb_build_object(
            'external_id', coalesce(f ->> 'id', f ->> 'hsobjectid', f ->> 'dealid', f ->> 'ownerid', f ->> 'stageid'),
            'owner', coalesce(f ->> 'hubspotownerid', case when f ? 'dealid' then f ->> 'ownerid' end),
            'account', coalesce(f ->> 'associatedcompanyid', record #>> '{associations,companies,results,0,id}'),
            -- An empty company is one that was taken away.
            'keeps_account', not (record ?| array['associatedcompanyid', 'property_associatedcompanyid']
                or coalesce(record -> 'properties', '{}') ? 'associatedcompanyid' or record #> '{associations,companies}' is not null),
            'email', f ->> 'email', 'title', f ->> 'jobtitle', 'code', coalesce(f ->> 'hssku', f ->> 'sku'), 'industry', f ->> 'industry',
            'stage', coalesce(f ->> 'dealstage', f ->> 'dealpipelinestageid'), 'amount', f ->> 'amount',
            'currency', f ->> 'dealcurrencycode', 'close_date', f ->> 'closedate',
            'name', coalesce(f ->> 'dealname', f ->> 'name', nullif(concat_ws(' ', f ->> 'firstname', f ->> 'lastname'), ''), f ->> 'email', f ->> 'label'),
            'pipeline', coalesce(f ->> 'pipeline', f ->> 'pipelineid', f ->> 'dealpipelineid'), 'position', f ->> 'displayorder',
            'probability', coalesce(f ->> 'probability', record #>> '{metadata,probability}'),
            'is_closed', coalesce(f ->> 'isclosed', record #>> '{metadata,isClosed}'),
            'is_won', f ->> 'closedwon',
            'stage_history', (select jsonb_agg(jsonb_build_object('stage', h ->> 'value', 'entered_at', h ->> 'timestamp'))
                              from jsonb_path_query(record, '$.propertiesWithHistory.dealstage[*]') h),
            'domain', coalesce(f ->> 'domain', salesai.domain_of(f ->> 'website')),
            'updated_at', coalesce(f ->> 'hslastmodifieddate', f ->> 'lastmodifieddate', f ->> 'updatedat', f ->> 'fivetransynced'),
            'deleted', coalesce(f ->> 'archived', f ->> 'isdeleted', f ->> 'fivetrandeleted', 'false')::boolean)
        end) || jsonb_build_object('fields', record) end
    from (select salesai.crm_fields(record) as f) fields
$$;
comment on function salesai.crm_record(text, jsonb) is
    'A record of Salesforce or HubSpot, as their APIs or Fivetran''s exports give it, in the fields of salesai.ingest_crm; the source''s own stay below "fields"';

create function salesai.domain_of(website text) returns text
language sql immutable strict parallel safe
as $$ select pg_catalog.lower(pg_catalog.substring(website, '^(?:[a-zA-Z]+://)?(?:www\.)?([^/:?# ]+\.[^/:?# ]+)')) $$;
comment on function salesai.domain_of(text) is 'Host of a web address, without www';

create function salesai.csv_records(content text) returns jsonb
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'csv_records_wrapper';
comment on function salesai.csv_records(text) is
    'The records of a CSV file (RFC 4180; the first line names the fields) as an array of objects, for salesai.ingest_crm; empty fields are left out. 22023 names the line that cannot be read';

create function salesai.ingest_crm(source text, kind text, records jsonb, shape text default 'plain')
returns table (external_id text, id bigint, outcome text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    record jsonb;
begin
    if kind is null or kind not in ('team', 'rep', 'account', 'contact', 'product', 'stage', 'opportunity', 'activity', 'stage_change', 'association') then
        raise exception 'unknown kind of CRM record "%"', kind using
            errcode = '22023', hint = 'Use team, rep, account, contact, product, stage, opportunity, activity, stage_change or association.';
    end if;
    if source is null or source = '' then
        raise exception 'source must not be empty' using errcode = '22023';
    end if;
    if shape is null or shape not in ('plain', 'salesforce', 'hubspot') then
        raise exception 'unknown shape "%"', shape using errcode = '22023', hint = 'Use plain, salesforce or hubspot.';
    end if;
    if records is null or jsonb_typeof(records) <> 'array' then
        raise exception 'records must be a JSON array' using errcode = '22023';
    end if;
    for record in select value from jsonb_array_elements(records) loop
        begin
            external_id := null;
            if jsonb_typeof(record) = 'object' then
                record := case kind
                    when 'activity' then salesai.crm_activity(shape, record)
                    when 'stage_change' then salesai.crm_stage_change(shape, record)
                    when 'association' then salesai.crm_association(shape, record)
                    else salesai.crm_record(shape, record) end;
                external_id := record ->> 'external_id';
            end if;
            if kind = 'activity' then
                select r.id, r.outcome into id, outcome from salesai.ingest_crm_activity(source, record) r;
            elsif kind = 'stage_change' then
                select r.id, r.outcome into id, outcome from salesai.ingest_stage_change(source, record) r;
            elsif kind = 'association' then
                select r.id, r.outcome into id, outcome from salesai.ingest_crm_association(source, record) r;
            elsif coalesce(external_id, '') <> '' and (record ->> 'deleted')::boolean then
                select r.id, r.outcome into id, outcome from salesai.delete_crm_record(source, kind, record) r;
            elsif coalesce(external_id, '') = '' or coalesce(record ->> 'name', '') = '' then
                raise exception 'a record needs "external_id" and "name"' using errcode = '22023';
            else
                select r.id, r.outcome into id, outcome from salesai.ingest_crm_record(source, kind, record) r;
            end if;
        exception
            when data_exception or integrity_constraint_violation or no_data_found then
                id := null;
                outcome := 'rejected: ' || sqlerrm;
        end;
        return next;
    end loop;
end
$$;
comment on function salesai.ingest_crm(text, text, jsonb, text) is
    'Upserts CRM records (kind: team, rep, account, contact, product, stage, opportunity, activity, stage_change, association) by external_id. outcome: inserted, updated, unchanged, deleted, stale (updated_at is before that of what is stored, which stays), or "rejected: ..." for a bad record, which blocks no other. Fields: name, updated_at, deleted; team: -; rep: email, team; account: domain, industry, owner; contact: account, email, title; product: code; stage: pipeline, position, probability, is_closed, is_won; opportunity: account, owner, stage, amount, currency, close_date, stage_history; activity (a task, event, logged call or e-mail, note; it becomes an interaction of kind crm_activity): type, subject, body (text or HTML) instead of name, occurred_at, account, opportunity, owner, contact; stage_change: opportunity, stage, entered_at; association: activity and its account, opportunity or contact, or account and opportunity or contact; "primary": false only fills what is empty, "deleted" takes it away. The last two have no external_id. shape: plain, or salesforce or hubspot for the fields of those';

-- Rights follow the account's owner.
create function salesai.carry_account_owner() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update salesai.interaction set owner_rep_id = new.owner_rep_id, team_id = new.team_id where account_id = new.id;
    update salesai.chunk set owner_rep_id = new.owner_rep_id, team_id = new.team_id where account_id = new.id;
    return null;
end
$$;
comment on function salesai.carry_account_owner() is 'Carries a new owner or team of an account to its interactions and chunks';
create trigger carry_account_owner after update of owner_rep_id, team_id on salesai.account
    for each row when (old.owner_rep_id is distinct from new.owner_rep_id or old.team_id is distinct from new.team_id)
    execute function salesai.carry_account_owner();

-- A CRM that is loaded after the calls: salesai.store_participants looks again at whoever may be meant.
create index participant_email_index on salesai.participant (lower(email)) where rep_id is null and contact_id is null;
create index participant_name_index on salesai.participant (salesai.normalise_name(name)) where rep_id is null and contact_id is null;
create index participant_domain_index on salesai.participant (split_part(lower(email), '@', 2)) where rep_id is null and contact_id is null;

-- Owner rights: who keeps the CRM need not see each interaction.
create function salesai.match_participants() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    is_rep constant boolean := tg_table_name = 'rep';
    -- Whoever writes from the domain of the first rep who has it is a colleague.
    new_domain constant text := case
        when is_rep and not exists (
            select from salesai.rep r where r.id <> new.id and split_part(lower(r.email), '@', 2) = split_part(lower(new.email), '@', 2))
        then nullif(split_part(lower(new.email), '@', 2), '') end;
    person record;
    renamed bigint[] := '{}';
begin
    if new.deleted_at is not null or tg_op = 'UPDATE' and old.deleted_at is null
        and (old.email, old.name) is not distinct from (new.email, new.name) then
        return null;
    end if;
    for person in
        select p.interaction_id, p.name, p.email, p.side
        from salesai.participant p
        where p.rep_id is null and p.contact_id is null
          and (lower(p.email) = lower(new.email) or salesai.normalise_name(p.name) = lower(new.name)
               or split_part(lower(p.email), '@', 2) = new_domain)
        -- Somebody who writes one now matches it, and waiting for them while they wait for us would end in a deadlock.
        for update skip locked
    loop
        -- A rep is internal, whatever his domain said before.
        perform salesai.store_participants(person.interaction_id, jsonb_build_array(jsonb_build_object(
            'name', person.name, 'email', person.email, 'side', case when not is_rep then person.side end)));
        -- A bare address stands under the name that the CRM has (salesai.speakers).
        if person.name like '%@%' then
            renamed := renamed || person.interaction_id;
        end if;
    end loop;
    -- Whoever indexes one now begins anew, and who would begin waits for this commit. Without waiting here: a job that is
    -- being finished at this moment keeps the address.
    with known as materialized (
        select j.id, j.state from salesai.job j
        where j.kind = 'index' and j.interaction_id = any (renamed) and j.state <> 'failed'
        for update skip locked)
    update salesai.job j
    set state = 'pending', not_before = now(), lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null
    from known k where j.id = k.id and k.state = 'running';
    insert into salesai.job (interaction_id, version, lane, source)
    select i.id, i.version, 'background', i.source from salesai.interaction i
    where i.id = any (renamed) and not exists (select from salesai.job j where j.kind = 'index' and j.interaction_id = i.id)
    order by i.id
    on conflict on constraint job_interaction_id_kind_key do nothing;
    if found then
        perform salesai.wake_worker();
    end if;
    return null;
end
$$;
comment on function salesai.match_participants() is 'Matches participants who are nobody yet to a new rep or contact';

create trigger match_participants after insert or update of name, email, deleted_at on salesai.rep
    for each row execute function salesai.match_participants();
create trigger match_participants after insert or update of name, email, deleted_at on salesai.contact
    for each row execute function salesai.match_participants();
